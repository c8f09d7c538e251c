import { runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { Directory, Row } from "../src/directory";

let directory: DurableObjectStub<Directory>;

beforeEach(() => {
  directory = env.Directory.get(env.Directory.newUniqueId());
});

afterEach(() => {
  vi.useRealTimers();
});

function row(id: string, more: Partial<Row> = {}): Row {
  const ends_at = Date.now() / 1000 + 600;
  return { id, labels: {}, created_at: 1, ends_at, state: "running", marker: "0123456789abcdef", port: 20_000, ...more };
}

test("a list comes in pages, newest first, and with labels only those that have all of them", async () => {
  for (let number = 0; number < 250; number += 1) {
    const labels = { half: String(number % 2), "a key": `ü=${number % 5}` };
    expect(await directory.add(row(`box${number}`, { labels }))).toBe(true);
  }
  const sizes = [];
  const ids = [];
  for (let cursor: string | null = "1000"; cursor !== null; ) {
    const page = await directory.list([], Number(cursor));
    sizes.push(page.rows.length);
    ids.push(...page.rows.map((one) => one.id));
    cursor = page.cursor;
  }
  expect(sizes).toEqual([100, 100, 50]);
  expect(ids).toEqual(Array.from({ length: 250 }, (_, place) => `box${249 - place}`));
  const found = await directory.list([["half", "1"], ["a key", "ü=3"]], null);
  expect(found.rows.map((one) => one.id)).toEqual(Array.from({ length: 25 }, (_, place) => `box${243 - place * 10}`));
  expect(await directory.list([["half", "2"]], null)).toEqual({ rows: [], cursor: null });
});

test("an id is taken until its row is removed", async () => {
  expect(await directory.add(row("abc"))).toBe(true);
  expect(await directory.add(row("abc"))).toBe(false);
  await directory.remove("abc");
  expect(await directory.setState("abc", "ended")).toBe(false);
  expect(await directory.add(row("abc", { state: "starting" }))).toBe(true);
  expect(await directory.setState("abc", "running")).toBe(true);
  expect((await directory.find("abc"))?.state).toBe("running");
});

test("rows go a minute after their end, once their containers are gone", async () => {
  const ends_at = Date.now() / 1000 + 10;
  await directory.add(row("abc", { ends_at }));
  await directory.add(row("stuckbox", { ends_at }));
  await directory.add(row("later"));
  expect(await runDurableObjectAlarm(directory)).toBe(true); // not yet
  expect(await ids()).toEqual(["later", "stuckbox", "abc"]);
  vi.useFakeTimers({ toFake: ["Date"], now: (ends_at + 61) * 1000 });
  expect(await runDurableObjectAlarm(directory)).toBe(true);
  expect(await ids()).toEqual(["later", "stuckbox"]);
  expect(await runDurableObjectAlarm(directory)).toBe(true); // tried again
});

async function ids(): Promise<string[]> {
  return (await directory.list([], null)).rows.map((one) => one.id);
}
