// What is done inside of a sandbox: programs, files, requests to its guest. Nothing here starts a container.

import { isNotValid, Refusal } from "./answers";
import { containerOf, type Env, type Failure } from "./container";
import { directoryOf, type Row } from "./directory";
import { LONGEST_COMMAND, prove, runProven, type Proven } from "./proof";
import { bodyOf, isTexts, markEnded, refusalOf } from "./sandboxes";

const MARKER = "x-agenthost-marker";
const LARGEST_FILE = 8 * 1024 * 1024; // bytes; the way into a container ends at about 12 MiB
const LONGEST = 3600; // seconds
const DEFAULT = 60; // seconds
const MOVING = 60; // seconds
const ERROR_TEXT = 1000; // characters

const MOVE = `
if [ "$(wc -c < "$1")" -ne "$2" ]; then rm -f "$1"; echo "not all of the file arrived" >&2; exit 1; fi
mkdir -p -- "$(dirname -- "$3")" && mv -fT -- "$1" "$3" || { rm -f "$1"; exit 1; }
`;

// What a guest must not get: the key of this Worker, and what Cloudflare adds about the caller.
const KEPT_BACK = /^(authorization|cookie|host|cf-.*|x-forwarded-.*|x-real-ip|x-agenthost-marker)$/;

export async function execute(request: Request, env: Env, _ctx: unknown, id: string): Promise<Response> {
  const { argv, env: added = {}, timeout = DEFAULT } = await bodyOf(request);
  if (!isArguments(argv)) throw isNotValid("argv");
  if (!isTexts(added)) throw isNotValid("env");
  for (const [name, value] of Object.entries(added)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || value.includes("\0")) throw isNotValid("env");
  }
  if (typeof timeout !== "number" || !(timeout > 0) || timeout > LONGEST) throw isNotValid("timeout");
  const row = await runningRow(request, env, id);
  const run = await runProven(containerOf(env, id), row.marker, argv, added, timeout);
  if (!run.ok) throw await failed(env, id, run);
  const headers = { "content-type": "application/x-ndjson; charset=utf-8", "cache-control": "no-store, no-transform" };
  return new Response(linesOf(run.value), { headers });
}

function isArguments(value: unknown): value is string[] {
  if (!Array.isArray(value) || value.length === 0) return false;
  if (!value.every((one) => typeof one === "string" && !one.includes("\0"))) return false;
  const size = value.reduce((sum: number, one: string) => sum + new TextEncoder().encode(one).length + 3, 0);
  return size <= LONGEST_COMMAND;
}

/** Write what a program does as one JSON value in each line. */
function linesOf(events: AsyncGenerator<Proven>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      const { value: event, done } = await events.next();
      if (done) {
        controller.close();
        controller.byobRequest?.respond(0);
        return;
      }
      controller.enqueue(encoder.encode(`${JSON.stringify(lineOf(event))}\n`));
    },
    async cancel() {
      await events.return(undefined);
    },
  });
}

function lineOf(event: Proven): unknown {
  if (event.type === "exit") return { exit: event.code };
  if (event.type === "failed") return { error: { code: event.code, message: event.message } };
  return { [event.type]: event.data.toBase64() };
}

export async function putFile(request: Request, env: Env, _ctx: unknown, id: string): Promise<Response> {
  const path = new URL(request.url).searchParams.get("path") ?? "";
  if (!path.startsWith("/") || path.endsWith("/") || path.includes("\0")) throw isNotValid("path");
  const row = await runningRow(request, env, id);
  const body = await bytesOf(request);
  const container = containerOf(env, id);
  // It is written beside, and moved only in the container that was proven to be the right one.
  const beside = `/tmp/.agenthost-${crypto.randomUUID()}`;
  const put = await container.put(beside, body);
  if (!put.ok) throw await failed(env, id, put);
  const argv = ["sh", "-c", MOVE, "agenthost", beside, String(body.length), path];
  const run = await runProven(container, row.marker, argv, {}, MOVING);
  if (!run.ok) throw await failed(env, id, run);
  await finish(run.value, path);
  return new Response(null, { status: 204 });
}

async function finish(events: AsyncGenerator<Proven>, path: string): Promise<void> {
  let printed = "";
  for await (const event of events) {
    if (event.type === "stderr") printed += new TextDecoder().decode(event.data);
    if (event.type === "failed") throw new Refusal(502, "container_error", event.message);
    if (event.type === "exit" && event.code !== 0) {
      throw new Refusal(400, "file_error", `${path} was not written: ${printed.trim().slice(0, ERROR_TEXT)}`);
    }
  }
}

/** Return the body of a request. One that is too large is read to its end, so that its sender gets the answer. */
async function bytesOf(request: Request): Promise<Uint8Array> {
  const body = new Uint8Array(LARGEST_FILE);
  let size = 0;
  for await (const piece of request.body ?? []) {
    if (size + piece.length <= LARGEST_FILE) body.set(piece, size);
    size += piece.length;
  }
  if (size > LARGEST_FILE) throw new Refusal(413, "payload_too_large", `a file may have ${LARGEST_FILE} bytes`);
  return body.slice(0, size); // a part of a buffer would be sent with all of it
}

/** Pass a request on to the guest. What it sends and what it gets streams, both at once. */
export async function forward(
  request: Request,
  env: Env,
  _ctx: unknown,
  id: string,
  rest: string,
): Promise<Response> {
  const row = await runningRow(null, env, id);
  const headers = new Headers([...request.headers].filter(([name]) => !KEPT_BACK.test(name)));
  const url = `http://guest/${rest}${new URL(request.url).search}`;
  const passed = new Request(url, { method: request.method, headers, body: request.body, redirect: "manual" });
  const container = containerOf(env, id);
  const answer = await container.forward(row.port, passed);
  if (!answer.ok) {
    // An empty container that has replaced the right one has no guest.
    const proven = answer.code === "not_listening" ? await prove(container, row.marker) : answer;
    throw await failed(env, id, proven.ok ? answer : proven);
  }
  return answer.value;
}

/** Return the row of a sandbox that runs. Throws a Refusal, also where the request names another container. */
async function runningRow(request: Request | null, env: Env, id: string): Promise<Row> {
  const row = await directoryOf(env).find(id);
  if (row === null) throw new Refusal(404, "not_found", `there is no sandbox with the id ${id}`);
  if (row.state === "starting") throw new Refusal(409, "starting", "the sandbox has not started yet");
  if (row.state === "ended") throw new Refusal(410, "replaced", "the container of this sandbox is gone");
  if (request !== null && request.headers.get(MARKER) !== row.marker) {
    throw new Refusal(410, "replaced", "the sandbox has another container than the one that was named");
  }
  return row;
}

/** Return the answer to a failure. A container that is gone ends its sandbox. */
async function failed(env: Env, id: string, failure: Failure): Promise<Refusal> {
  if (failure.code === "gone") await markEnded(env, id);
  return refusalOf(failure);
}
