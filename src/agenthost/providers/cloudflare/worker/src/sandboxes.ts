// Sandboxes as a whole: made, found, listed, kept longer, ended.

import { isNotValid, json, Refusal } from "./answers";
import { containerOf, type Container, type Env, type Failure } from "./container";
import { directoryOf, type Row } from "./directory";
import { mark } from "./proof";

const DAY = 86_400; // seconds
const SLACK = 60; // seconds by which the clock of a caller may be ahead
const MOST_LABELS = 64;
const LONGEST_LABELS = 16_384; // characters, of all labels together
const ENDING = 60; // seconds
const CONTROL_PORT = 3000; // of the program that @cloudflare/sandbox runs in the container
const RETRY = 10; // seconds

export async function createSandbox(
  request: Request,
  env: Env,
  ctx: ExecutionContext,
  id: string,
): Promise<Response> {
  const body = await bodyOf(request);
  const row: Row = {
    id,
    labels: labelsOf(body["labels"]),
    created_at: now(),
    ends_at: endOf(body["ends_at"], env),
    state: "starting",
    marker: markerOf(body["marker"]),
    port: portOf(body["port"]),
  };
  // From here on the sandbox is found, whatever happens to this call or to the Worker.
  if (!(await directoryOf(env).add(row))) {
    throw new Refusal(409, "name_taken", `there is a sandbox with the id ${id}`);
  }
  const started = start(env, row);
  ctx.waitUntil(started.catch(() => null)); // also when the caller goes away
  await started;
  return json(201, recordOf({ ...row, state: "running" }));
}

/** Start the container. This is the only place that does: the row was added by this call alone. */
async function start(env: Env, row: Row): Promise<void> {
  const container = containerOf(env, row.id);
  const directory = directoryOf(env);
  try {
    await container.keepUntil(row.ends_at);
    const booted = await container.boot();
    if (!booted.ok) throw refusalOf(booted);
    const marked = await mark(container, row.marker);
    if (!marked.ok) throw refusalOf(marked);
    if (!(await directory.setState(row.id, "running"))) {
      throw new Refusal(410, "gone", "the sandbox was ended while it started");
    }
  } catch (error) {
    await end(container); // where this fails, the row stays, and the container is destroyed at its end
    await directory.remove(row.id);
    throw error;
  }
}

export async function findSandbox(_request: Request, env: Env, _ctx: unknown, id: string): Promise<Response> {
  return json(200, recordOf(await describe(env, id)));
}

/** Return the row of a sandbox, with the state that its container has. Throws a Refusal where there is none. */
export async function describe(env: Env, id: string): Promise<Row> {
  const row = await directoryOf(env).find(id);
  if (row === null) throw new Refusal(404, "not_found", `there is no sandbox with the id ${id}`);
  if (row.state !== "running" || row.ends_at <= now()) return row;
  if (await containerOf(env, id).isRunning()) return row;
  await markEnded(env, id);
  return { ...row, state: "ended" };
}

/**
 * Have a sandbox be ended, whose container is gone. An empty one that runs instead is destroyed; where that
 * fails, it is destroyed at the end that was set.
 */
export async function markEnded(env: Env, id: string): Promise<void> {
  await directoryOf(env).setState(id, "ended");
  await end(containerOf(env, id)).catch(() => null);
}

export async function listSandboxes(request: Request, env: Env): Promise<Response> {
  if (request.method !== "GET") throw new Refusal(404, "unknown_call", "there is no such call");
  const query = new URL(request.url).searchParams;
  const labels = query.getAll("label").map((label): [string, string] => {
    const at = label.indexOf("=");
    if (at < 1) throw isNotValid("label");
    return [label.slice(0, at), label.slice(at + 1)];
  });
  if (labels.length > MOST_LABELS / 2) throw isNotValid("label"); // SQLite takes 100 parameters here
  const cursor = query.get("cursor");
  if (cursor !== null && !/^\d{1,15}$/.test(cursor)) throw isNotValid("cursor");
  const page = await directoryOf(env).list(labels, cursor === null ? null : Number(cursor));
  return json(200, { sandboxes: page.rows.map(recordOf), cursor: page.cursor });
}

export async function setLifetime(request: Request, env: Env, _ctx: unknown, id: string): Promise<Response> {
  const endsAt = endOf((await bodyOf(request))["ends_at"], env);
  const row = await describe(env, id);
  if (recordOf(row).state === "ended") throw new Refusal(410, "gone", "the sandbox has ended");
  // The row first: its sweep must not come before a later end.
  await directoryOf(env).setEnd(id, endsAt);
  await containerOf(env, id).keepUntil(endsAt);
  return json(200, recordOf({ ...row, ends_at: endsAt }));
}

export async function destroySandbox(_request: Request, env: Env, _ctx: unknown, id: string): Promise<Response> {
  const directory = directoryOf(env);
  if ((await directory.find(id)) !== null) {
    await end(containerOf(env, id));
    await directory.remove(id);
  }
  return new Response(null, { status: 204 });
}

async function end(container: Container): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Refusal(502, "container_error", `the container was not destroyed within ${ENDING} s`)),
    ENDING * 1000,
  );
  try {
    await Promise.race([container.end(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Return how a failure of a container is answered. */
export function refusalOf({ code, message }: Failure): Refusal {
  if (code === "gone") return new Refusal(410, "replaced", message);
  if (code === "capacity_exceeded" || code === "container_unavailable") return new Refusal(503, code, message, RETRY);
  return new Refusal(code === "operation_interrupted" ? 409 : 502, code, message);
}

function recordOf(row: Row): Pick<Row, "id" | "labels" | "created_at" | "ends_at" | "state"> {
  const { id, labels, created_at, ends_at } = row;
  return { id, labels, created_at, ends_at, state: ends_at <= now() ? "ended" : row.state };
}

/** Seconds that a sandbox may live. */
export function maxLifetime(env: Env): number {
  const found = Number(env.MAX_LIFETIME ?? DAY);
  if (!(found > 0)) throw new Refusal(503, "not_configured", "MAX_LIFETIME is not a number of seconds");
  return found;
}

/** Return the body of a request: a JSON object. Throws a Refusal. */
export async function bodyOf(request: Request): Promise<Record<string, unknown>> {
  const body: unknown = await request.json().catch(() => null);
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw isNotValid("the body");
  return body as Record<string, unknown>;
}

export function isTexts(value: unknown): value is Record<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((one) => typeof one === "string");
}

function labelsOf(value: unknown): Record<string, string> {
  if (!isTexts(value) || Object.keys(value).length > MOST_LABELS) throw isNotValid("labels");
  if (JSON.stringify(value).length > LONGEST_LABELS) throw isNotValid("labels");
  return value;
}

function endOf(value: unknown, env: Env): number {
  const longest = now() + maxLifetime(env) + SLACK;
  if (typeof value !== "number" || !(value > now()) || value > longest) throw isNotValid("ends_at");
  return value;
}

function markerOf(value: unknown): string {
  if (typeof value !== "string" || !/^[0-9a-f]{16,64}$/.test(value)) throw isNotValid("marker");
  return value;
}

function portOf(value: unknown): number {
  const isPort = typeof value === "number" && Number.isInteger(value) && value >= 1024 && value <= 65_535;
  if (!isPort || value === CONTROL_PORT) throw isNotValid("port");
  return value;
}

function now(): number {
  return Date.now() / 1000;
}
