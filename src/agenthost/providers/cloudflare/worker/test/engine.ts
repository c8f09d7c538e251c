// Containers in memory, for the stub. Of programs, it knows what the Worker's own shell scripts do.

interface InMemory {
  marker: string;
  files: Map<string, Uint8Array>;
}

interface Asked {
  argv: string[];
  env: Record<string, string>;
}

export class Engine {
  readonly #containers = new Map<string, InMemory>();

  /** Answer a call of the stub. A container whose id begins with `stuck` cannot be destroyed. */
  async answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (url.hostname === "api.anthropic.com") return Response.json([...request.headers]);
    const [, , id = "", call = "destroy", ...rest] = url.pathname.split("/");
    const container = this.#containers.get(id);
    if (call === "running") return Response.json({ running: container !== undefined });
    if (call === "lifetime") return done();
    if (call === "start") {
      this.#containers.set(id, { marker: "", files: new Map() });
      return done();
    }
    if (call === "destroy") {
      if (id.startsWith("stuck")) return new Response(null, { status: 500 });
      this.#containers.delete(id);
      return done();
    }
    if (container === undefined) return new Response(null, { status: 500 });
    if (call === "file") {
      container.files.set(url.searchParams.get("path") ?? "", new Uint8Array(await request.arrayBuffer()));
      return done();
    }
    if (call === "port") return Response.json({ path: `/${rest.slice(1).join("/")}`, headers: [...request.headers] });
    return new Response(run(container, (await request.json()) as Asked), {
      headers: { "content-type": "text/event-stream" },
    });
  }
}

function done(): Response {
  return new Response(null, { status: 204 });
}

/** Run a program: it prints its arguments and its environment. */
function run(container: InMemory, { argv, env }: Asked): string {
  const [, , , , marker = "", record, ...program] = argv;
  if (record === undefined) {
    container.marker = marker;
    return exit(0);
  }
  if (container.marker !== marker) return printed(`\x1e${record} no\n`) + exit(1);
  const output = program[0] === "true" ? "" : JSON.stringify({ argv: program, env });
  return printed(`\x1e${record} ok\n${output}`) + printed(`\x1e${record} 7\n`) + exit(0);
}

function printed(text: string): string {
  return `event: stdout\ndata: ${btoa(text)}\n\n`;
}

function exit(code: number): string {
  return `event: exit\ndata: ${JSON.stringify({ exit_code: code })}\n\n`;
}
