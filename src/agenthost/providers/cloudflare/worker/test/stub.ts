// A container that is served by HTTP at ENGINE_URL instead of by Cloudflare: for tests, never deployed.

import { DurableObject } from "cloudflare:workers";

import { DONE, failure, type Container, type Failure, type FailureCode, type Result } from "../src/container";

export class StubContainer extends DurableObject<Cloudflare.Env> implements Container {
  async boot(): Promise<Result> {
    const answer = await this.#ask("POST", "start");
    return answer.ok ? DONE : failureOf(answer);
  }

  async isRunning(): Promise<boolean> {
    const answer = await this.#ask("GET", "running");
    if (!answer.ok) throw new Error(`the engine answered ${answer.status}: ${await answer.text()}`);
    return (await answer.json<{ running: boolean }>()).running;
  }

  async run(
    argv: string[],
    env: Record<string, string>,
    timeout: number,
  ): Promise<Result<ReadableStream<Uint8Array>>> {
    if (!(await this.isRunning())) return failure("gone", "the container does not run");
    const answer = await this.#ask("POST", "exec", { body: JSON.stringify({ argv, env, timeout }) });
    return answer.ok && answer.body !== null ? { ok: true, value: answer.body } : failureOf(answer);
  }

  async put(path: string, body: Uint8Array): Promise<Result> {
    if (!(await this.isRunning())) return failure("gone", "the container does not run");
    const answer = await this.#ask("PUT", `file?${new URLSearchParams({ path })}`, { body });
    return answer.ok ? DONE : failureOf(answer);
  }

  async forward(port: number, request: Request): Promise<Result<Response>> {
    if (!(await this.isRunning())) return failure("gone", "the container does not run");
    const { pathname, search } = new URL(request.url);
    try {
      const answer = await fetch(new Request(this.#url(`port/${port}${pathname}${search}`), request));
      if (!answer.headers.has("x-engine-error")) return { ok: true, value: answer };
      return failure("not_listening", await answer.text());
    } catch (error) {
      return failure("not_listening", String(error));
    }
  }

  async end(): Promise<void> {
    const answer = await this.#ask("DELETE", "");
    if (!answer.ok) throw new Error(`the engine answered ${answer.status}`);
  }

  async keepUntil(endsAt: number): Promise<void> {
    await this.ctx.storage.setAlarm(endsAt * 1000);
    await this.#ask("POST", "lifetime", { body: JSON.stringify({ ends_at: endsAt }) });
  }

  override async alarm(): Promise<void> {
    await this.end();
  }

  async #ask(method: string, what: string, init: RequestInit = {}): Promise<Response> {
    try {
      return await fetch(this.#url(what), { method, ...init });
    } catch (error) {
      return Response.json({ code: "container_error", message: String(error) }, { status: 502 });
    }
  }

  #url(what: string): string {
    const path = what === "" ? "" : `/${what}`;
    return `${this.env.ENGINE_URL}/containers/${this.ctx.id.name ?? ""}${path}`;
  }
}

async function failureOf(answer: Response): Promise<Failure> {
  const text = await answer.text();
  const code: FailureCode =
    (["capacity_exceeded", "container_unavailable", "operation_interrupted"] as const).find((one) =>
      text.includes(`"${one}"`),
    ) ?? "container_error";
  return failure(code, text);
}
