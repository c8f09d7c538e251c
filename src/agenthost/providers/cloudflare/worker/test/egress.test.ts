import { env } from "cloudflare:workers";
import { expect, test } from "vitest";

import { egressOf, hasKey, withKey } from "../src/egress";

test("egress is open unless it is closed", () => {
  expect(egressOf(env)).toEqual({ isClosed: false, allowed: [] });
  const closed = { ...env, EGRESS: "closed", ALLOWED_HOSTS: "PyPI.org, *.pythonhosted.org" };
  expect(egressOf(closed)).toEqual({ isClosed: true, allowed: ["*.pythonhosted.org", "pypi.org"] });
  expect(egressOf({ ...closed, EGRESS: "open" }).allowed).toEqual([]);
  expect(() => egressOf({ ...env, EGRESS: "Closed" })).toThrow("EGRESS is neither open nor closed");
});

test("a key that is blank is none", () => {
  expect(hasKey(env)).toBe(false);
  expect(hasKey({ ...env, ANTHROPIC_API_KEY: " " })).toBe(false);
  expect(hasKey({ ...env, ANTHROPIC_API_KEY: "k" })).toBe(true);
});

test("with the key, Anthropic is a host that closed containers reach", () => {
  const closed = { ...env, EGRESS: "closed", ALLOWED_HOSTS: "", ANTHROPIC_API_KEY: "k" };
  expect(egressOf(closed)).toEqual({ isClosed: true, allowed: ["api.anthropic.com"] });
  expect(egressOf({ ...closed, ANTHROPIC_API_KEY: " " })).toEqual({ isClosed: true, allowed: [] });
});

test("the key takes the place of what the container sent, on an encrypted connection", async () => {
  const request = new Request("http://api.anthropic.com/v1/messages?beta=true", {
    method: "POST",
    headers: { "x-api-key": "placeholder", authorization: "Bearer placeholder", "anthropic-version": "2023-06-01" },
    body: "{}",
  });
  const answer = await withKey(request, { ...env, ANTHROPIC_API_KEY: "the-real-key" });
  const headers = new Map(await answer.json<[string, string][]>());
  expect(headers.get("x-api-key")).toBe("the-real-key");
  expect(headers.has("authorization")).toBe(false);
  expect(headers.get("anthropic-version")).toBe("2023-06-01");
});
