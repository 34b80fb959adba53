/** Documents of JSON, one on each line, from a stream of bytes. @module */
import { ApiServerError } from "./error.ts";

const NEWLINE = 10;

/**
 * The documents of each piece that comes. Pulls only as fast as they are taken.
 * @param bytesMax longest line
 * @throws {ApiServerError} ANSWER_INVALID: no JSON; ANSWER_TOO_LARGE; STREAM_CUT: the stream ends within a line
 */
export async function* jsonLines(
  pieces: AsyncIterable<Uint8Array>,
  { action, bytesMax }: { action: string; bytesMax: number },
): AsyncGenerator<unknown[]> {
  let rest: Uint8Array[] = [], restBytes = 0;
  const decoder = new TextDecoder();
  for await (const piece of pieces) {
    const end = piece.lastIndexOf(NEWLINE) + 1;
    if (end > 0) {
      const text = decoder.decode(joined([...rest, piece.subarray(0, end)], restBytes + end));
      rest = [];
      restBytes = 0;
      const lines = text.split("\n").filter((line) => line.trim() !== "");
      if (lines.length > 0) yield lines.map((line) => parsed(line, action));
    }
    if (end < piece.length) {
      rest.push(piece.subarray(end));
      restBytes += piece.length - end;
    }
    if (restBytes > bytesMax) {
      throw new ApiServerError("ANSWER_TOO_LARGE", {
        status: 502,
        detail: `Cannot ${action}: one event has more than ${bytesMax} bytes`,
        expected: `at most ${bytesMax} bytes`,
      });
    }
  }
  if (decoder.decode(joined(rest, restBytes)).trim() !== "") {
    throw new ApiServerError("STREAM_CUT", {
      status: 502,
      detail: `Cannot ${action}: the stream ended within an event`,
    });
  }
}

/** @throws {ApiServerError} ANSWER_INVALID */
export function parsed(text: string, action: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ApiServerError("ANSWER_INVALID", {
      status: 502,
      detail: `Cannot ${action}: the answer is no JSON`,
      found: text.slice(0, 200),
      cause,
    });
  }
}

function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
