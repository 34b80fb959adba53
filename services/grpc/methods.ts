/** What a server of gRPC answers, by path. @module */
import type { Message } from "@weir/proto";

/** What a handler knows of its call. */
export interface GrpcCall {
  /** Aborts when the caller is gone, its deadline has passed or the server stops. */
  readonly signal: AbortSignal;
  /** A header of the request, in lower case. */
  header(name: string): string | undefined;
}

/** One request, answered by a stream of encoded messages; those of a batch go out in one write. */
export interface GrpcMethod {
  /** One answer to one request; else a stream of them. */
  readonly isUnary?: boolean;
  open(request: Uint8Array, call: GrpcCall): AsyncIterable<readonly Uint8Array[]>;
}

/** Methods by path: `/observer.Observer/GetFlows`. */
export type GrpcMethods = Readonly<Record<string, GrpcMethod>>;

/** A method with one answer. */
export function unary<Req, Res>(
  request: Message<Req>,
  response: Message<Res>,
  handle: (request: Req, call: GrpcCall) => Promise<Res> | Res,
): GrpcMethod {
  return {
    isUnary: true,
    async *open(bytes, call) {
      yield [response.encode(await handle(request.decode(bytes), call) as never)];
    },
  };
}

/** A method with a stream of answers, each encoded by `response`. */
export function streaming<Req, Res>(
  request: Message<Req>,
  response: Message<Res>,
  handle: (request: Req, call: GrpcCall) => AsyncIterable<readonly Res[]>,
): GrpcMethod {
  return {
    async *open(bytes, call) {
      for await (const batch of handle(request.decode(bytes), call)) {
        yield batch.map((one) => response.encode(one as never));
      }
    },
  };
}

/** A method with a stream of answers that are encoded already. */
export function streamingBytes<Req>(
  request: Message<Req>,
  handle: (request: Req, call: GrpcCall) => AsyncIterable<readonly Uint8Array[]>,
): GrpcMethod {
  return { open: (bytes, call) => handle(request.decode(bytes), call) };
}
