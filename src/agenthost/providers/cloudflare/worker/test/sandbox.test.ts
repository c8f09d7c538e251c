// The class that is deployed, with the code of @cloudflare/sandbox and a container that is not there.

import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";

import type { Env } from "../src/container";
import { readEvents, type Event } from "../src/events";
import { Sandbox } from "../src/sandbox";

/** What that program answers to a command. */
const EVENTS = [
  { type: "start" },
  { type: "stdout", data: "ü\n" },
  { type: "stderr", data: "to stderr" },
  { type: "complete", exitCode: 7 },
]
  .map((event) => `data: ${JSON.stringify(event)}\n\n`)
  .join("");

/** What Cloudflare gives a Durable Object to reach its container. */
class FakeContainer {
  running = false;
  starts: ContainerStartupOptions[] = [];
  intercepted: string[] = [];
  refusal: string | null = null;
  requests: string[] = [];
  /** What the program of @cloudflare/sandbox in the container was asked, by its paths. */
  asked = new Map<string, unknown>();
  #stopped = Promise.withResolvers<void>();

  start(options: ContainerStartupOptions): void {
    this.starts.push(options);
    this.running = this.refusal === null;
    this.#stopped = Promise.withResolvers<void>();
    if (this.refusal !== null) this.#stopped.reject(new Error(this.refusal));
  }

  monitor(): Promise<void> {
    return this.#stopped.promise;
  }

  async destroy(): Promise<void> {
    this.running = false;
    this.#stopped.resolve();
  }

  getTcpPort(port: number): { fetch: (input: Request | string, init?: RequestInit) => Promise<Response> } {
    return {
      fetch: async (input, init) => {
        const request = new Request(input, init);
        this.requests.push(`${port} ${request.url}`);
        if (!this.running || port === 20_001) throw new Error("the container is not listening in the TCP address 10.0.0.1");
        const { pathname } = new URL(request.url);
        if (!pathname.startsWith("/api/")) return new Response("here");
        this.asked.set(pathname, await request.json().catch(() => null));
        return pathname === "/api/execute/stream" ? new Response(EVENTS) : Response.json({ success: true });
      },
    };
  }

  async interceptOutboundHttp(host: string): Promise<void> {
    this.intercepted.push(`http ${host}`);
  }

  async interceptOutboundHttps(host: string): Promise<void> {
    this.intercepted.push(`https ${host}`);
  }

  async interceptAllOutboundHttp(): Promise<void> {
    this.intercepted.push("http, all");
  }
}

/** Run with a new Sandbox. */
async function withSandbox(
  more: Partial<Env>,
  use: (sandbox: Sandbox, container: FakeContainer, state: DurableObjectState) => Promise<void>,
): Promise<void> {
  const stub = env.Sandbox.get(env.Sandbox.newUniqueId());
  await runInDurableObject(stub, async (_stub: unknown, state) => {
    const container = new FakeContainer();
    Object.defineProperty(state, "container", { value: container });
    await use(new Sandbox(state as DurableObjectState<{}>, { ...env, ...more }), container, state);
  });
}

test("only boot starts a container", () =>
  withSandbox({}, async (sandbox, container) => {
    expect(await sandbox.isRunning()).toBe(false);
    expect(await sandbox.run(["true"], {}, 1)).toMatchObject({ ok: false, code: "gone" });
    expect(await sandbox.put("/tmp/x", new Uint8Array())).toMatchObject({ ok: false, code: "gone" });
    expect(await sandbox.forward(20_000, new Request("http://guest/"))).toMatchObject({ ok: false, code: "gone" });
    expect(container.starts).toEqual([]);
    expect(await sandbox.boot()).toEqual({ ok: true, value: null });
    expect(await sandbox.isRunning()).toBe(true);
    expect(container.starts).toHaveLength(1);
    expect(container.starts[0]).toMatchObject({ enableInternet: true });
    expect(container.intercepted).toEqual([]);
  }));

test("a request goes to the port that was named, and a port on which nothing listens is a failure", () =>
  withSandbox({}, async (sandbox, container) => {
    await sandbox.boot();
    container.requests = [];
    const answer = await sandbox.forward(20_000, new Request("http://guest/a?b"));
    expect(answer.ok && (await answer.value.text())).toBe("here");
    expect(container.requests).toEqual(["20000 http://guest/a?b"]);
    const refused = await sandbox.forward(20_001, new Request("http://guest/"));
    expect(refused).toMatchObject({ ok: false, code: "not_listening" });
  }));

test("a program is quoted for a shell, has its environment beside it, and its events are read", () =>
  withSandbox({}, async (sandbox, container) => {
    await sandbox.boot();
    const run = await sandbox.run(["printf", "", "it's $HOME\n"], { A: "a secret" }, 1.5);
    expect(container.asked.get("/api/execute/stream")).toEqual({
      command: `'printf' '' 'it'\\''s $HOME\n'`,
      env: { A: "a secret" },
      timeoutMs: 1500,
      cwd: "/workspace",
      sessionId: "__DISABLE_SESSION__",
    });
    if (!run.ok) throw new Error(run.message);
    const events: Event[] = [];
    for await (const event of readEvents(run.value)) events.push(event);
    expect(events).toEqual([
      { type: "stdout", data: new TextEncoder().encode("ü\n") },
      { type: "stderr", data: new TextEncoder().encode("to stderr") },
      { type: "exit", code: 7 },
    ]);
  }));

test("a file is sent in a form that keeps every byte", () =>
  withSandbox({}, async (sandbox, container) => {
    await sandbox.boot();
    expect(await sandbox.put("/tmp/x", new Uint8Array([0, 255, 128]))).toEqual({ ok: true, value: null });
    const asked = container.asked.get("/api/write");
    expect(asked).toMatchObject({ path: "/tmp/x", content: "AP+A", encoding: "base64" });
  }));

test("a start without room and a start that fails are two failures", () =>
  withSandbox({}, async (sandbox, container) => {
    container.refusal = "Maximum number of running container instances exceeded. Try again later";
    expect(await sandbox.boot()).toMatchObject({ ok: false, code: "capacity_exceeded" });
    container.refusal = "no such image";
    expect(await sandbox.boot()).toMatchObject({ ok: false, code: "container_error" });
  }));

test("the alarm keeps a container until its end, and destroys it then", () =>
  withSandbox({}, async (sandbox, container, state) => {
    const endsAt = Date.now() / 1000 + 3600;
    await sandbox.keepUntil(Date.now() / 1000 + 60);
    await sandbox.keepUntil(endsAt); // takes the place of the earlier one
    await sandbox.boot();
    expect(state.storage.sql.exec("SELECT callback, time FROM container_schedules").toArray()).toEqual([
      { callback: "end", time: Math.floor(endsAt) },
    ]);
    await sandbox.onActivityExpired(); // what ends a container after ten minutes without a call
    expect(container.running).toBe(true);
    vi.useFakeTimers({ toFake: ["Date"], now: (endsAt + 1) * 1000 });
    try {
      await sandbox.alarm({ isRetry: false, retryCount: 0, scheduledTime: Date.now() });
    } finally {
      vi.useRealTimers();
    }
    expect(container.running).toBe(false);
    expect(container.starts).toHaveLength(1);
    expect(await state.storage.get("keepAliveEnabled")).toBe(false);
  }));

test("closed, a container starts without internet, and all that it sends is intercepted", () =>
  withSandbox({ EGRESS: "closed", ALLOWED_HOSTS: "pypi.org" }, async (sandbox, container) => {
    await sandbox.boot();
    expect(container.starts[0]).toMatchObject({ enableInternet: false });
    expect(container.intercepted).toContain("http, all");
    expect(container.intercepted).toContain("https *");
    expect(sandbox.allowedHosts).toEqual(["pypi.org"]);
  }));

test("a container is not made where egress is not valid", async () => {
  await expect(withSandbox({ EGRESS: "close" }, async () => {})).rejects.toThrow("EGRESS is neither open nor closed");
});
