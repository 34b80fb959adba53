/** Request bodies with a limit that is enforced before the body is in memory. @module */
import { concatBytes } from "./framing.ts";
import { ProblemError } from "./problem.ts";

/** Largest body that a route takes unless it says otherwise. */
export const BODY_BYTES_MAX = 8 * 1024 * 1024;

/**
 * The body's bytes. A declared length over the limit is refused before anything is read, an undeclared one as soon as
 * the limit is passed.
 * @throws {ProblemError} BODY_TOO_LARGE, status 413
 */
export async function readBody(request: Request, bytesMax = BODY_BYTES_MAX): Promise<Uint8Array> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > bytesMax) {
    await request.body?.cancel().catch(() => {});
    throw tooLarge(declared, bytesMax);
  }
  if (request.body === null) return new Uint8Array(0);
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = request.body.getReader();
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > bytesMax) {
      await reader.cancel().catch(() => {});
      throw tooLarge(`more than ${bytesMax}`, bytesMax);
    }
    chunks.push(value);
  }
  return concatBytes(chunks);
}

function tooLarge(found: number | string, bytesMax: number): ProblemError {
  return new ProblemError("BODY_TOO_LARGE", {
    status: 413,
    detail: `Cannot take the body: it has ${found} bytes of at most ${bytesMax}`,
    found,
    expected: `at most ${bytesMax} bytes`,
    action: "Send smaller objects, or several requests",
  });
}
