// Calls of agenthost, below /agenthost/v1: see README.md.

import manifest from "../package.json";
import { isNotValid, json, Refusal } from "./answers";
import type { Env } from "./container";
import { egressOf } from "./egress";
import { execute, forward, putFile } from "./inside";
import { createSandbox, destroySandbox, findSandbox, listSandboxes, maxLifetime, setLifetime } from "./sandboxes";

export const PREFIX = "/agenthost/v1";

type Call = (request: Request, env: Env, ctx: ExecutionContext, id: string, rest: string) => Promise<Response>;

const OF_ONE: Record<string, Call> = {
  "PUT ": createSandbox,
  "GET ": findSandbox,
  "DELETE ": destroySandbox,
  "POST lifetime": setLifetime,
  "POST exec": execute,
  "PUT files": putFile,
};

/** Answer a call of agenthost. Throws a Refusal. */
export async function route(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
  const { pathname } = new URL(request.url);
  const [root = "", id = "", what = "", ...rest] = pathname.slice(PREFIX.length + 1).split("/");
  if (!`${pathname}/`.startsWith(`${PREFIX}/`)) throw unknown();
  if (root === "" && id === "") return about(request, env);
  if (root !== "sandboxes") throw unknown();
  if (id === "") return listSandboxes(request, env);
  if (!/^[a-z2-7]{1,64}$/.test(id)) throw isNotValid("the id");
  const call = what === "guest" ? forward : rest.length === 0 ? OF_ONE[`${request.method} ${what}`] : undefined;
  if (call === undefined) throw unknown();
  return call(request, env, ctx, id, rest.join("/"));
}

function about(request: Request, env: Env): Response {
  if (request.method !== "GET") throw unknown();
  const { isClosed, allowed } = egressOf(env);
  return json(200, {
    agenthost: 1,
    sandbox: manifest.dependencies["@cloudflare/sandbox"],
    max_lifetime: maxLifetime(env),
    egress: isClosed ? "closed" : "open",
    allowed,
    image: env.IMAGE ?? "",
  });
}

function unknown(): Refusal {
  return new Refusal(404, "unknown_call", "there is no such call");
}
