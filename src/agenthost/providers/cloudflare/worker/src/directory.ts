// The list of all sandboxes. A row is there before its container starts, and outlives the Worker.

import { DurableObject } from "cloudflare:workers";

import { containerOf, type Env } from "./container";

export type State = "starting" | "running" | "ended";

/** One sandbox. Times are in seconds since the epoch. */
export interface Row {
  id: string;
  labels: Record<string, string>;
  created_at: number;
  ends_at: number;
  state: State;
  /** Names the container: a file in it holds this. */
  marker: string;
  /** Where its guest listens. */
  port: number;
}

export interface Page {
  rows: Row[];
  cursor: string | null;
}

const PAGE = 100;
const GRACE = 60; // seconds after the end of a sandbox, in which its own alarm has destroyed the container
const RETRY = 60; // seconds, where destroying failed
const ENDING = 30; // seconds that destroying may take

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS sandboxes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    labels TEXT NOT NULL,
    created_at REAL NOT NULL,
    ends_at REAL NOT NULL,
    state TEXT NOT NULL,
    marker TEXT NOT NULL,
    port INTEGER NOT NULL
  )`;

export class Directory extends DurableObject<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.storage.sql.exec(SCHEMA);
  }

  /** Add a row. Return whether its id was free. */
  async add(row: Row): Promise<boolean> {
    if (this.find(row.id) !== null) return false;
    this.ctx.storage.sql.exec(
      `INSERT INTO sandboxes (id, labels, created_at, ends_at, state, marker, port)
       VALUES (?, ?, ?, ?, ?, ?, ?)`,
      row.id,
      JSON.stringify(row.labels),
      row.created_at,
      row.ends_at,
      row.state,
      row.marker,
      row.port,
    );
    await this.#planSweep();
    return true;
  }

  find(id: string): Row | null {
    const [found] = this.ctx.storage.sql.exec("SELECT * FROM sandboxes WHERE id = ?", id).toArray();
    return found === undefined ? null : rowOf(found);
  }

  /** Set the state of a sandbox. Return whether there is such a row. */
  setState(id: string, state: State): boolean {
    return this.ctx.storage.sql.exec("UPDATE sandboxes SET state = ? WHERE id = ?", state, id).rowsWritten > 0;
  }

  async setEnd(id: string, endsAt: number): Promise<void> {
    this.ctx.storage.sql.exec("UPDATE sandboxes SET ends_at = ? WHERE id = ?", endsAt, id);
    await this.#planSweep();
  }

  remove(id: string): void {
    this.ctx.storage.sql.exec("DELETE FROM sandboxes WHERE id = ?", id);
  }

  /** Return the sandboxes that have all these labels, newest first, from a cursor on. */
  list(labels: [string, string][], cursor: number | null): Page {
    const has = "EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)";
    const where = ["number < ?", ...labels.map(() => has)].join(" AND ");
    const found = this.ctx.storage.sql
      .exec(
        `SELECT * FROM sandboxes WHERE ${where} ORDER BY number DESC LIMIT ${PAGE + 1}`,
        cursor ?? Number.MAX_SAFE_INTEGER,
        ...labels.flat(),
      )
      .toArray();
    const kept = found.slice(0, PAGE);
    const last = kept.at(-1);
    return {
      rows: kept.map(rowOf),
      cursor: found.length > PAGE && last !== undefined ? String(last["number"]) : null,
    };
  }

  /** Remove the sandboxes whose time is over, once their containers are surely gone. */
  override async alarm(): Promise<void> {
    const due = this.ctx.storage.sql
      .exec("SELECT * FROM sandboxes WHERE ends_at <= ?", now() - GRACE)
      .toArray()
      .map(rowOf);
    const ended = await Promise.all(due.map((row) => hasEnded(this.env, row.id)));
    for (const [place, row] of due.entries()) {
      if (ended[place]) this.remove(row.id);
    }
    await this.#planSweep();
  }

  async #planSweep(): Promise<void> {
    const { first } = this.ctx.storage.sql.exec("SELECT min(ends_at) AS first FROM sandboxes").one();
    if (typeof first !== "number") return;
    await this.ctx.storage.setAlarm(Math.max(first + GRACE, now() + (first + GRACE <= now() ? RETRY : 0)) * 1000);
  }
}

/** The one directory of this Worker. */
export function directoryOf(env: Env): DurableObjectStub<Directory> {
  return env.Directory.get(env.Directory.idFromName("directory"));
}

async function hasEnded(env: Env, id: string): Promise<boolean> {
  const late = new Promise<boolean>((resolve) => setTimeout(() => resolve(false), ENDING * 1000));
  const ended = containerOf(env, id)
    .end()
    .then(
      () => true,
      () => false,
    );
  return Promise.race([ended, late]);
}

function rowOf(found: Record<string, SqlStorageValue>): Row {
  return {
    id: String(found["id"]),
    labels: JSON.parse(String(found["labels"])) as Record<string, string>,
    created_at: Number(found["created_at"]),
    ends_at: Number(found["ends_at"]),
    state: String(found["state"]) as State,
    marker: String(found["marker"]),
    port: Number(found["port"]),
  };
}

function now(): number {
  return Date.now() / 1000;
}
