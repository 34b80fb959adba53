/** ClientHellos and what servers answer, for tests. @module */

const RETRY_RANDOM = Uint8Array.fromHex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c");

/** A vector: its length in so many bytes, then these. */
export function vector(lengthBytes: number, ...parts: (readonly number[] | Uint8Array)[]): Uint8Array {
  const content = Uint8Array.from(parts.flatMap((part) => [...part]));
  return Uint8Array.from([
    ...Array.from({ length: lengthBytes }, (_, at) => content.length >> (8 * (lengthBytes - 1 - at)) & 0xff),
    ...content,
  ]);
}

/** What a hello is made of. */
export interface HelloParts {
  /** Content of the extension server_name; a text: one name of a host. */
  readonly serverName?: string | Uint8Array;
  /** Further extensions: type and content. */
  readonly extensions?: readonly (readonly [number, Uint8Array])[];
  readonly suites?: Uint8Array;
}

/** Content of the extension server_name. */
export function serverNames(...names: string[]): Uint8Array {
  return vector(2, ...names.flatMap((name) => [[0], vector(2, new TextEncoder().encode(name))]));
}

/** A handshake message. */
export function clientHello(
  { serverName, extensions = [], suites = vector(2, [0x13, 1]) }: HelloParts = {},
): Uint8Array {
  const name = typeof serverName === "string" ? serverNames(serverName) : serverName;
  // GREASE first, as browsers do (RFC 8701).
  const all = [[0x3a3a, new Uint8Array()], ...(name ? [[0, name]] : []), ...extensions] as [
    number,
    Uint8Array,
  ][];
  const content = all.flatMap(([type, bytes]) => [[type >> 8, type & 0xff], vector(2, bytes)]);
  return message(
    1,
    [3, 3],
    new Uint8Array(32).fill(7),
    vector(1, new Uint8Array(32)),
    suites,
    vector(1, [0]),
    vector(2, ...content),
  );
}

/** ServerHello, or HelloRetryRequest. */
export function serverHello(isRetry = false): Uint8Array {
  return message(
    2,
    [3, 3],
    isRetry ? RETRY_RANDOM : new Uint8Array(32).fill(9),
    vector(1, []),
    [0x13, 1, 0],
    vector(2, []),
  );
}

/** A handshake message of any type. */
export function message(type: number, ...parts: (readonly number[] | Uint8Array)[]): Uint8Array {
  return Uint8Array.from([type, ...vector(3, ...parts)]);
}

/** In records of at most so many bytes. */
export function records(payload: Uint8Array, { type = 22, bytesMax = 16_384 } = {}): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += bytesMax) {
    parts.push(Uint8Array.from([type, 3, 1]), vector(2, payload.subarray(at, at + bytesMax)));
  }
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Before the second hello. */
export const CHANGE_CIPHER_SPEC = Uint8Array.from([20, 3, 3, 0, 1, 1]);
