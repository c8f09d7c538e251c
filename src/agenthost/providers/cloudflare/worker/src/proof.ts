// Run programs only in the container that was made for a sandbox, and believe only an end that is proven.
//
// A container that has stopped is replaced by an empty one with the next call, without an error, and an exit
// code may arrive of a program that still runs. So a shell reads the marker file, then runs the program, and
// prints a record before and after it, with a number that nothing else prints.

import type { Container, Result } from "./container";
import { failure } from "./container";
import { readEvents, type Event } from "./events";

const MARKER = "/root/.agenthost-marker"; // not in the working directory, which agents tidy up
const MARK = `umask 077 && set -C && printf %s "$1" > ${MARKER}`;
const PROVE = `
marker=$1 record=$2; shift 2
if [ "$(cat ${MARKER} 2>/dev/null)" != "$marker" ]; then printf '\\036%s no\\n' "$record"; exit 1; fi
printf '\\036%s ok\\n' "$record"
"$@"
printf '\\036%s %s\\n' "$record" "$?"
`;

// The whole command becomes one argument of a shell, for which Linux has 131,072 bytes.
export const LONGEST_COMMAND = 120_000; // bytes
const FIRST = 60; // seconds for a command that does little

/** What a program in the right container does; the last one is `exit` or `failed`. */
export type Proven =
  | { type: "stdout" | "stderr"; data: Uint8Array }
  | { type: "exit"; code: number }
  | { type: "failed"; code: "interrupted" | "timeout"; message: string };

/** Write the marker into a new container, and prove that it is there. */
export async function mark(container: Container, marker: string): Promise<Result> {
  const written = await container.run(["sh", "-c", MARK, "agenthost", marker], {}, FIRST);
  if (!written.ok) return written;
  for await (const event of readEvents(written.value)) {
    if (event.type === "error") return failure("container_error", event.message);
  }
  return prove(container, marker);
}

/** Prove that the container with this marker runs. Fails as `gone` where it does not. */
export async function prove(container: Container, marker: string): Promise<Result> {
  const run = await runProven(container, marker, ["true"], {}, FIRST);
  if (!run.ok) return run;
  await run.value.return(undefined);
  return { ok: true, value: null };
}

/**
 * Run a program in the container with this marker, and return what it does. Fails as `gone` where that
 * container does not run; an empty one may run instead of it then.
 */
export async function runProven(
  container: Container,
  marker: string,
  argv: string[],
  env: Record<string, string>,
  timeout: number,
): Promise<Result<AsyncGenerator<Proven>>> {
  const record = crypto.randomUUID().replaceAll("-", "");
  const began = Date.now();
  const run = await container.run(["sh", "-c", PROVE, "agenthost", marker, record, ...argv], env, timeout);
  if (!run.ok) return run;
  const events = readEvents(run.value);
  const stdout = new Records(record);
  const early: Proven[] = [];
  while (stdout.first === null) {
    const { value: event, done } = await events.next();
    if (done || event.type === "exit" || event.type === "error") {
      const reason = event?.type === "error" ? event.message : "it ended before it began";
      return failure("container_error", `the program did not run: ${reason}`);
    }
    const data = event.type === "stdout" ? stdout.take(event.data) : event.data;
    if (data.length > 0) early.push({ type: event.type, data });
  }
  if (stdout.first !== "ok") {
    await events.return(undefined);
    return failure("gone", "the container of this sandbox was replaced by an empty one");
  }
  const isLate = () => Date.now() - began >= timeout * 1000;
  return { ok: true, value: follow(events, stdout, early, isLate) };
}

async function* follow(
  events: AsyncGenerator<Event>,
  stdout: Records,
  early: Proven[],
  isLate: () => boolean,
): AsyncGenerator<Proven> {
  yield* early;
  let reason = "the connection to it was lost";
  try {
    for await (const event of events) {
      if (event.type === "exit" || event.type === "error") {
        reason = event.type === "exit" ? `an end with code ${event.code} was reported` : event.message;
        break;
      }
      const data = event.type === "stdout" ? stdout.take(event.data) : event.data;
      if (data.length > 0) yield { type: event.type, data };
    }
  } catch (error) {
    reason = String(error);
  }
  const rest = stdout.rest();
  if (rest.length > 0) yield { type: "stdout", data: rest };
  const code = stdout.last;
  if (code !== null) yield { type: "exit", code };
  else if (isLate()) yield { type: "failed", code: "timeout", message: "the program ran for too long" };
  else yield { type: "failed", code: "interrupted", message: `the program's end is not proven: ${reason}` };
}

/** Takes the two records out of what a program prints. All else passes at once. */
class Records {
  first: string | null = null;
  last: number | null = null;
  readonly #begin: Uint8Array;
  #held: Uint8Array = new Uint8Array();

  constructor(record: string) {
    this.#begin = new TextEncoder().encode(`\x1e${record} `);
  }

  take(data: Uint8Array): Uint8Array {
    let left = joined(this.#held, data);
    const passed: Uint8Array[] = [];
    for (;;) {
      const at = this.#find(left);
      passed.push(left.subarray(0, at));
      left = left.subarray(at);
      const end = left.indexOf(0x0a);
      if (left.length < this.#begin.length || end < 0) break; // no record, or not all of it
      this.#keep(new TextDecoder().decode(left.subarray(this.#begin.length, end)));
      left = left.subarray(end + 1);
    }
    this.#held = left.slice();
    return joined(...passed);
  }

  /** Return what looked like a record, at the end of the output. */
  rest(): Uint8Array {
    return this.#held;
  }

  #keep(text: string): void {
    if (this.first === null) this.first = text;
    else this.last = Number(text);
  }

  /** Return where a record begins, or may begin with what comes next; the length where none does. */
  #find(data: Uint8Array): number {
    for (let at = data.indexOf(0x1e); at >= 0; at = data.indexOf(0x1e, at + 1)) {
      const there = data.subarray(at, at + this.#begin.length);
      if (there.every((byte, place) => byte === this.#begin[place])) return at;
    }
    return data.length;
  }
}

function joined(...parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
