// Which hosts containers reach, and with whose key they reach Anthropic.

import { Refusal } from "./answers";
import type { Env } from "./container";

const ANTHROPIC = "api.anthropic.com";

export interface Egress {
  isClosed: boolean;
  /** Hosts that are reached all the same, in lower case; `*` stands for any characters. Empty unless closed. */
  allowed: string[];
}

/** Return what was configured. Throws a Refusal where that is not valid: nothing is open by mistake. */
export function egressOf(env: Env): Egress {
  const egress = env.EGRESS ?? "open";
  if (egress !== "open" && egress !== "closed") {
    throw new Refusal(503, "not_configured", "EGRESS is neither open nor closed");
  }
  if (egress === "open") return { isClosed: false, allowed: [] };
  const hosts = (env.ALLOWED_HOSTS ?? "").toLowerCase().split(/[\s,]+/).filter((host) => host !== "");
  const allowed = new Set(hasKey(env) ? [...hosts, ANTHROPIC] : hosts);
  return { isClosed: true, allowed: [...allowed].sort() };
}

/** Return whether this Worker puts its own key into requests to Anthropic. */
export function hasKey(env: Env): boolean {
  return (env.ANTHROPIC_API_KEY ?? "").trim() !== "";
}

/** Pass a request of a container on to Anthropic, with the key of this Worker in place of any other. */
export async function withKey(request: Request, env: Env): Promise<Response> {
  const headers = new Headers(request.headers);
  headers.delete("authorization");
  headers.set("x-api-key", env.ANTHROPIC_API_KEY ?? "");
  const url = new URL(request.url);
  url.protocol = "https:";
  return fetch(new Request(url, { method: request.method, headers, body: request.body, redirect: "manual" }));
}

/** The hosts whose requests go through this Worker, as @cloudflare/sandbox takes them. */
export const INJECTED = { [ANTHROPIC]: withKey };
