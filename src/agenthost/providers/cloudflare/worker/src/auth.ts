// Who may call: whoever has the key. Without a key in the Worker, nobody.

import { Refusal } from "./answers";
import type { Env } from "./container";

const encoder = new TextEncoder();

/** Throw a Refusal unless the request has the Worker's key. */
export async function authorize(request: Request, env: Env): Promise<void> {
  const key = env.SANDBOX_API_KEY ?? "";
  if (key.trim() === "") {
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
  return crypto.subtle.digest("SHA-256", encoder.encode(text));
}
