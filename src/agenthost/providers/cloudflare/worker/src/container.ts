// The one way in which this Worker reaches a container. `sandbox.ts` implements it on @cloudflare/sandbox, and
// `test/stub.ts` by HTTP, for tests.

/** What the Worker does with the container of one sandbox. */
export interface Container {
  /** Start a container where none runs. Return once it takes commands. */
  boot(): Promise<Result>;

  /** Return whether a container runs. Never starts one. */
  isRunning(): Promise<boolean>;

  /**
   * Run a program, with an empty stdin, and return its events as `events.ts` reads them. Fails as `gone` where
   * no container runs. One that stops just now may be replaced by an empty one, in which the program then runs.
   *
   * @param argv The program and its arguments, without NUL characters.
   * @param env Added to its environment.
   * @param timeout Seconds after which it is killed.
   */
  run(argv: string[], env: Record<string, string>, timeout: number): Promise<Result<ReadableStream<Uint8Array>>>;

  /** Write a file of at most 8 MiB into a directory that exists. A container that stops is as for `run`. */
  put(path: string, body: Uint8Array): Promise<Result>;

  /** Pass a request on to a port, and its answer back, while both come. A container that stops is as for `run`. */
  forward(port: number, request: Request): Promise<Result<Response>>;

  /** Destroy the container, and whatever runs in it. Does nothing where none runs. */
  end(): Promise<void>;

  /** Keep the container even without calls, and destroy it at this time, in seconds since the epoch. */
  keepUntil(endsAt: number): Promise<void>;
}

/** An outcome. A class of errors would not arrive as such from a Durable Object. */
export type Result<T = null> = { ok: true; value: T } | Failure;

export interface Failure {
  ok: false;
  code: FailureCode;
  message: string;
}

/**
 * - `gone`: no container runs.
 * - `not_listening`: there is no answer from the port.
 * - `capacity_exceeded`, `container_unavailable`: nothing was done; the call can be repeated.
 * - `operation_interrupted`, `container_error`: it may have been done.
 */
export type FailureCode =
  | "gone"
  | "not_listening"
  | "capacity_exceeded"
  | "container_unavailable"
  | "operation_interrupted"
  | "container_error";

export const DONE: Result = { ok: true, value: null };

export function failure(code: FailureCode, message: string): Failure {
  return { ok: false, code, message };
}

/** What this Worker is deployed with: wrangler.jsonc and secrets. */
export interface Env {
  /** Durable Objects, one for each sandbox, each a `Container`. */
  Sandbox: DurableObjectNamespace;
  /** The one Durable Object that lists the sandboxes. */
  Directory: DurableObjectNamespace<import("./directory").Directory>;
  /** Of the bridge of @cloudflare/sandbox. */
  WarmPool: DurableObjectNamespace;
  SANDBOX_API_KEY?: string;
  ANTHROPIC_API_KEY?: string;
  EGRESS?: string;
  ALLOWED_HOSTS?: string;
  MAX_LIFETIME?: string;
  IMAGE?: string;
}

type WorkerEnv = Env;

declare global {
  namespace Cloudflare {
    /** What handlers of @cloudflare/sandbox get, and tests import. */
    interface Env extends WorkerEnv {}
  }
}

/** Return the container of a sandbox. Does not start it. */
export function containerOf(env: Env, id: string): Container {
  const stub: unknown = env.Sandbox.get(env.Sandbox.idFromName(id));
  return stub as Container; // a stub has the methods of its object
}
