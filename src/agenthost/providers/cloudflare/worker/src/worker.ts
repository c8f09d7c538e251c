// The Worker: nothing without the key, calls of agenthost, and the bridge of @cloudflare/sandbox.

import { bridge } from "@cloudflare/sandbox/bridge";

import { json, Refusal } from "./answers";
import type { Env } from "./container";
import { egressOf } from "./egress";
import { route } from "./routes";

const bridged = bridge({ fetch: route });

const worker: ExportedHandler<Env> = {
  async fetch(request, env, ctx) {
    try {
      await authorize(request, env); // without a key, the bridge itself would answer every caller
      egressOf(env);
      return await (bridged.fetch?.(request, { ...env }, ctx) ?? route(request, env, ctx));
    } catch (error) {
      if (error instanceof Refusal) return error.toResponse();
      console.error(JSON.stringify({ component: "agenthost", method: request.method, error: nameOf(error) }));
      return json(500, { error: { code: "internal_error", message: "the Worker failed" } });
    }
  },
};

/** Return what may be logged of an error. Its message could hold what a caller sent. */
function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}

/** Throw a Refusal unless the request has the Worker's key. */
async function authorize(request: Request, env: Env): Promise<void> {
  const key = (env.SANDBOX_API_KEY ?? "").trim(); // a key from a pipe may end with a newline
  if (key === "") {
    throw new Refusal(
      503,
      "not_configured",
      "SANDBOX_API_KEY is not set. Set it: openssl rand -hex 32 | npx wrangler secret put SANDBOX_API_KEY",
    );
  }
  const [, token = ""] = /^bearer +(.+)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
  if (!(await isSame(token, key))) {
    throw new Refusal(401, "unauthorized", "the bearer token is missing or wrong");
  }
}

/** Compare in a time that does not depend on the values: digests have one length. */
async function isSame(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([digest(one), digest(other)]);
  return crypto.subtle.timingSafeEqual(a, b);
}

function digest(text: string): Promise<ArrayBuffer> {
  return crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
}

export default worker;
