/** A caller of gRPC for tests, on bare HTTP/2: it can do what no proper library would. @module */
import http2 from "node:http2";
import { FRAME_HEADER_BYTES, FrameReader, framesOf } from "../frame.ts";

/** How a call ended. */
export interface Ended {
  readonly messages: Uint8Array[];
  readonly status: number;
  readonly message: string;
  readonly headers: Record<string, unknown>;
}

/** One connection. */
export class Caller {
  readonly session: http2.ClientHttp2Session;

  constructor(
    authority: string,
    options: http2.ClientSessionOptions | http2.SecureClientSessionOptions = {},
  ) {
    this.session = http2.connect(authority, options);
    this.session.on("error", () => {});
  }

  /** Opens a call and sends `body` as it is. */
  open(path: string, body: Uint8Array | undefined, headers: Record<string, string> = {}) {
    const stream = this.session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    if (body !== undefined) stream.end(body);
    return stream;
  }

  /** A whole call. */
  async call(path: string, request: Uint8Array, headers: Record<string, string> = {}): Promise<Ended> {
    return await endOf(this.open(path, framesOf([request]), headers));
  }

  close(): void {
    this.session.destroy();
  }
}

/** Reads a call to its end. */
export function endOf(stream: http2.ClientHttp2Stream): Promise<Ended> {
  const reader = new FrameReader(1 << 24), messages: Uint8Array[] = [];
  let trailers: Record<string, unknown> = {}, headers: Record<string, unknown> = {};
  return new Promise((resolve) => {
    stream.on("response", (got) => headers = got);
    stream.on("trailers", (got) => trailers = got);
    stream.on("data", (chunk: Uint8Array) => messages.push(...reader.push(chunk)));
    stream.on("error", () => {});
    stream.on("close", () =>
      resolve({
        messages,
        headers,
        status: Number(trailers["grpc-status"] ?? -1),
        message: decodeURIComponent(`${trailers["grpc-message"] ?? ""}`),
      }));
  });
}

export { FRAME_HEADER_BYTES };
