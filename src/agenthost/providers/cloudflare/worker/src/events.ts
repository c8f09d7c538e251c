// What a program prints while it runs, and how it ends: server-sent events, as the bridge writes them.

export type Event =
  | { type: "stdout" | "stderr"; data: Uint8Array }
  | { type: "exit"; code: number }
  | { type: "error"; message: string };

const encoder = new TextEncoder();

/** Write one event. */
export function encodeEvent(event: Event): Uint8Array {
  return encoder.encode(`event: ${event.type}\ndata: ${dataOf(event)}\n\n`);
}

function dataOf(event: Event): string {
  if (event.type === "exit") return JSON.stringify({ exit_code: event.code });
  if (event.type === "error") return JSON.stringify({ error: event.message, code: "exec_error" });
  return event.data.toBase64();
}

/** Read events. An event that is cut off at the end of the stream is left out. */
export async function* readEvents(stream: ReadableStream<Uint8Array>): AsyncGenerator<Event> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = parse(block);
      if (event !== null) yield event;
    }
  }
}

function parse(block: string): Event | null {
  let type = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) type = line.slice("event: ".length);
    if (line.startsWith("data: ")) data += line.slice("data: ".length);
  }
  if (type === "stdout" || type === "stderr") return { type, data: Uint8Array.fromBase64(data) };
  if (type === "exit") return { type, code: (JSON.parse(data) as { exit_code: number }).exit_code };
  if (type === "error") return { type, message: (JSON.parse(data) as { error: string }).error };
  return null;
}
