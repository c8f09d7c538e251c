// Answers in JSON, and errors that end a request.

/** An answer that is not a success. Thrown, it ends the request. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfter?: number,
  ) {
    super(message);
  }

  toResponse(): Response {
    const headers: Record<string, string> = this.retryAfter === undefined ? {} : { "retry-after": String(this.retryAfter) };
    return json(this.status, { error: { code: this.code, message: this.message } }, headers);
  }
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers: { "cache-control": "no-store", ...headers } });
}

export function isNotValid(what: string): Refusal {
  return new Refusal(400, "invalid_request", `${what} is not valid`);
}
