// The container of one sandbox, by @cloudflare/sandbox.

import { env as deployed } from "cloudflare:workers";

import { Sandbox as CloudflareSandbox, parseSSEStream, type ExecEvent } from "@cloudflare/sandbox";

import { DONE, failure, type Container, type Env, type Failure, type Result } from "./container";
import { egressOf, hasKey, INJECTED } from "./egress";
import { encodeEvent, type Event } from "./events";

export { ContainerProxy } from "@cloudflare/sandbox";

const CONTROL_PORT = 3000; // where the program of @cloudflare/sandbox listens in the container
const PLACING = 30_000; // milliseconds until Cloudflare has found a machine
const LISTENING = 90_000; // milliseconds until the container takes commands
// A command of no session is a process of its own. The bridge passes this value, too; the version is pinned.
const NO_SESSION = "__DISABLE_SESSION__";
const FULL = /no container instance|maximum number of running container instances|too many containers per second/i;

export class Sandbox extends CloudflareSandbox<Env> implements Container {
  constructor(ctx: DurableObjectState<{}>, env: Env) {
    super(ctx, env);
    const egress = egressOf(env);
    this.interceptHttps = egress.isClosed || hasKey(env);
    if (egress.isClosed) {
      this.enableInternet = false;
      this.allowedHosts = egress.allowed;
    }
  }

  async boot(): Promise<Result> {
    try {
      await this.startAndWaitForPorts(CONTROL_PORT, {
        instanceGetTimeoutMS: PLACING,
        portReadyTimeoutMS: LISTENING,
      });
      return DONE;
    } catch (error) {
      return failureOf(error);
    }
  }

  async isRunning(): Promise<boolean> {
    return this.ctx.container?.running === true;
  }

  async run(
    argv: string[],
    env: Record<string, string>,
    timeout: number,
  ): Promise<Result<ReadableStream<Uint8Array>>> {
    if (!(await this.isRunning())) return failure("gone", "the container does not run");
    try {
      const command = argv.map(quoted).join(" ");
      const options = { env, timeout: timeout * 1000, cwd: "/workspace" };
      const events = await this.execStreamWithSessionToken(command, NO_SESSION, options);
      return { ok: true, value: bridgeEvents(events) };
    } catch (error) {
      return failureOf(error);
    }
  }

  async put(path: string, body: Uint8Array): Promise<Result> {
    if (!(await this.isRunning())) return failure("gone", "the container does not run");
    try {
      await this.writeFile(path, body.toBase64(), { encoding: "base64", sessionId: NO_SESSION });
      return DONE;
    } catch (error) {
      return failureOf(error);
    }
  }

  async forward(port: number, request: Request): Promise<Result<Response>> {
    const container = this.ctx.container;
    if (container?.running !== true) return failure("gone", "the container does not run");
    try {
      // Not `containerFetch`, which starts a container.
      return { ok: true, value: await container.getTcpPort(port).fetch(request) };
    } catch (error) {
      return failure("not_listening", messageOf(error));
    }
  }

  async end(): Promise<void> {
    await this.setKeepAlive(false);
    await this.destroy();
  }

  async keepUntil(endsAt: number): Promise<void> {
    this.deleteSchedules("end");
    await this.schedule(new Date(endsAt * 1000), "end"); // outlives this object and the Worker
    await this.setKeepAlive(true);
  }
}

// What carries out the requests of containers finds this by the class; no object of it need be there.
if (hasKey(deployed)) Sandbox.outboundByHost = INJECTED;

/** Quote an argument for a POSIX shell. */
function quoted(argument: string): string {
  return `'${argument.replaceAll("'", `'\\''`)}'`;
}

function bridgeEvents(events: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const source = parseSSEStream<ExecEvent>(events)[Symbol.asyncIterator]();
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      for (;;) {
        const { value, done } = await source.next();
        if (done) {
          controller.close();
          controller.byobRequest?.respond(0);
          return;
        }
        const event = eventOf(value);
        if (event === null) continue;
        controller.enqueue(encodeEvent(event));
        return;
      }
    },
    async cancel() {
      await source.return?.();
    },
  });
}

function eventOf(event: ExecEvent): Event | null {
  if (event.type === "stdout" || event.type === "stderr") {
    return event.data ? { type: event.type, data: new TextEncoder().encode(event.data) } : null;
  }
  if (event.type === "complete") return { type: "exit", code: event.exitCode ?? 0 };
  if (event.type === "error") return { type: "error", message: event.error ?? event.data ?? "the program failed" };
  return null;
}

function failureOf(error: unknown): Failure {
  const message = messageOf(error);
  const code = (error as { code?: unknown } | null)?.code;
  if (FULL.test(message)) return failure("capacity_exceeded", message);
  if (code === "CONTAINER_UNAVAILABLE") return failure("container_unavailable", message);
  if (code === "OPERATION_INTERRUPTED") return failure("operation_interrupted", message);
  return failure("container_error", message);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
