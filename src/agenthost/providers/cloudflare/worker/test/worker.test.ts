import { exports } from "cloudflare:workers";
import { expect, test } from "vitest";

const MARKER = "0123456789abcdef";

function call(method: string, path: string, body?: unknown, key = "the key of these tests"): Promise<Response> {
  const headers = { authorization: `Bearer ${key}`, "x-agenthost-marker": MARKER, "x-agenthost-token": "t" };
  const init = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
  return exports.default.fetch(new Request(`http://worker${path}`, init));
}

test("without the right key there is no answer, also from the bridge", async () => {
  for (const path of ["/agenthost/v1", "/agenthost/v1/sandboxes", "/health", "/v1/sandbox/abc/running"]) {
    expect((await call("GET", path, undefined, "another")).status).toBe(401);
  }
});

test("a sandbox is made, runs programs, leads to its guest, and is ended", async () => {
  const root = "/agenthost/v1/sandboxes/abc";
  const made = { labels: { app: "x" }, ends_at: Date.now() / 1000 + 600, marker: MARKER, port: 20_000 };
  expect((await call("PUT", root, made)).status).toBe(201);
  expect((await call("PUT", root, made)).status).toBe(409);
  const listed = await (await call("GET", "/agenthost/v1/sandboxes?label=app%3Dx")).json();
  expect(listed).toMatchObject({ sandboxes: [{ id: "abc", state: "running" }], cursor: null });

  const run = await call("POST", `${root}/exec`, { argv: ["x", "y"], env: { A: "b" } });
  const [output, end] = (await run.text()).trim().split("\n").map((line) => JSON.parse(line));
  expect(JSON.parse(atob(output.stdout))).toEqual({ argv: ["x", "y"], env: { A: "b" } });
  expect(end).toEqual({ exit: 7 });

  const { path, headers } = await (await call("GET", `${root}/guest/v1/down`)).json<{
    path: string;
    headers: [string, string][];
  }>();
  expect(path).toBe("/v1/down");
  expect(new Map(headers).get("x-agenthost-token")).toBe("t");
  expect(new Map(headers).has("authorization")).toBe(false);

  expect((await call("DELETE", root)).status).toBe(204);
  expect((await call("GET", root)).status).toBe(404);
});
