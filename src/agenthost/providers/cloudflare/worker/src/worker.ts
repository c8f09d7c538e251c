// The Worker: nothing without the key, calls of agenthost, and the bridge of @cloudflare/sandbox.

import { bridge } from "@cloudflare/sandbox/bridge";

import { json, Refusal } from "./answers";
import { authorize } from "./auth";
import type { Env } from "./container";
import { egressOf } from "./egress";
import { route } from "./routes";

const bridged = bridge({ fetch: route });

const worker: ExportedHandler<Env> = {
  async fetch(request, env, ctx) {
    try {
      await authorize(request, env); // the bridge itself would let everybody in where there is no key
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

export default worker;
