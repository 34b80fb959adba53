/**
 * What a relay looks at in a GetFlowsResponse: whose it is and when it was, by the outermost fields alone. The flow itself is passed
 * through as it came.
 *
 *     tag, length, flow … │ tag of 1000, length, node name │ tag of 1001, length, { seconds 1, nanos 2 }
 *
 * @module
 */

const NODE_NAME = 1000, TIME = 1001;
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Of one response. */
export interface ResponseHead {
  /** "" where the request's field mask leaves it out. */
  readonly nodeName: string;
  /** Unix milliseconds with a fraction; undefined where the mask leaves it out. */
  readonly unixMs: number | undefined;
}

/** Reads the head. Pure. @throws {RangeError} bytes that are no message */
export function readResponseHead(bytes: Uint8Array): ResponseHead {
  const reader = new Reader(bytes);
  let nodeName = "", unixMs: number | undefined;
  while (reader.more) {
    const tag = reader.varint(), field = Math.floor(tag / 8), kind = tag % 8;
    if (field === NODE_NAME && kind === 2) nodeName = textOf(reader.bytes());
    else if (field === TIME && kind === 2) unixMs = timeOf(new Reader(reader.bytes()));
    else reader.skip(kind);
  }
  return { nodeName, unixMs };
}

function textOf(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new RangeError("the name is no text");
  }
}

function timeOf(reader: Reader): number {
  let seconds = 0, nanos = 0;
  while (reader.more) {
    const tag = reader.varint();
    if (tag === 1 << 3) seconds = reader.varint();
    else if (tag === 2 << 3) nanos = reader.varint();
    else reader.skip(tag % 8);
  }
  const unixMs = seconds * 1000 + nanos / 1e6;
  // Before 1970 is 2^64 minus something here, and no time of any flow.
  return unixMs < Number.MAX_SAFE_INTEGER ? unixMs : 0;
}

class Reader {
  #at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get more(): boolean {
    return this.#at < this.#bytes.length;
  }

  varint(): number {
    for (let value = 0, scale = 1, length = 0; length < 10; length++, scale *= 128) {
      if (!this.more) break;
      const byte = this.#bytes[this.#at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new RangeError("a number is cut off");
  }

  bytes(): Uint8Array {
    const length = this.varint();
    return this.#take(length);
  }

  skip(kind: number): void {
    if (kind === 0) this.varint();
    else if (kind === 1) this.#take(8);
    else if (kind === 2) this.bytes();
    else if (kind === 5) this.#take(4);
    else throw new RangeError(`there is no kind ${kind} of field`);
  }

  #take(length: number): Uint8Array {
    if (length > this.#bytes.length - this.#at) throw new RangeError("a field is cut off");
    return this.#bytes.subarray(this.#at, this.#at += length);
  }
}
