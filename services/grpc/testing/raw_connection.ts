/** HTTP/2 frames by hand on a bare socket, for tests: what no library would send. @module */
import { type AddressInfo, connect, type Socket } from "node:net";

const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Types of frames (RFC 9113 section 6). */
export const FRAME = {
  DATA: 0,
  HEADERS: 1,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;
/** Flags of HEADERS, DATA and CONTINUATION. */
export const END_STREAM = 1, END_HEADERS = 4;

/** One frame: its length in 24 bits, type, flags, stream in 31 bits, payload. */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(9 + payload.length), view = new DataView(out.buffer);
  view.setUint32(0, payload.length << 8);
  out[3] = type;
  out[4] = flags;
  view.setUint32(5, stream);
  out.set(payload, 9);
  return out;
}

/** Frames behind one another. */
export function joined(...frames: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(frames.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const one of frames) {
    out.set(one, at);
    at += one.length;
  }
  return out;
}

/** A header in HPACK, as it is: neither indexed nor compressed (RFC 7541 section 6.2.2). Up to 126 bytes of name, any value. */
export function header(name: string, value: string): Uint8Array {
  const text = new TextEncoder(), key = text.encode(name), bytes = text.encode(value);
  return joined(new Uint8Array([0, key.length]), key, hpackLength(bytes.length), bytes);
}

function hpackLength(length: number): Uint8Array {
  if (length < 127) return new Uint8Array([length]);
  const out = [127];
  let rest = length - 127;
  for (; rest >= 128; rest >>>= 7) out.push((rest & 127) | 128);
  return new Uint8Array([...out, rest]);
}

/** Headers of a call. */
export function callHeaders(path: string): Uint8Array {
  return joined(
    header(":method", "POST"),
    header(":scheme", "http"),
    header(":authority", "x"),
    header(":path", path),
    header("content-type", "application/grpc"),
    header("te", "trailers"),
  );
}

/** A connection that sends what it is told to. */
export class RawConnection {
  readonly socket: Socket;
  /** Bytes that came. */
  received = 0;
  isClosed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk) => this.received += chunk.length);
    socket.on("close", () => this.isClosed = true);
    socket.on("error", () => {});
  }

  /** Opens one, with the preface and empty settings unless told otherwise. */
  static async open(
    port: AddressInfo["port"],
    first: Uint8Array = joined(PREFACE, frame(FRAME.SETTINGS, 0, 0, new Uint8Array())),
  ): Promise<RawConnection> {
    const socket = connect(port, "127.0.0.1");
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    const raw = new RawConnection(socket);
    socket.write(first);
    return raw;
  }

  /** Sends, and waits until the kernel has taken it or the connection is closed. */
  async send(bytes: Uint8Array): Promise<void> {
    if (this.isClosed) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.socket.removeListener("close", done);
        resolve();
      };
      this.socket.once("close", done);
      this.socket.write(bytes, done);
    });
  }

  close(): void {
    this.socket.destroy();
  }
}
