/** Answers that the proxy gives itself, in the server's place. @module */
import { DENIED_BODY } from "../http1/local_answer.ts";
import { HeaderField } from "./header_field.ts";

/** An answer, whole. */
export interface LocalAnswer {
  readonly status: number;
  readonly grpcStatus: number | undefined;
  readonly fields: readonly HeaderField[];
  readonly body: Uint8Array;
}

/** Statuses of gRPC. */
const GRPC = { PERMISSION_DENIED: 7, INTERNAL: 13, UNAVAILABLE: 14 } as const;
const GRPC_OF: Readonly<Record<number, number>> = { 403: GRPC.PERMISSION_DENIED, 503: GRPC.UNAVAILABLE };

const encoder = new TextEncoder();
const NOTHING = new Uint8Array(0);

/**
 * 403: the rules deny it, `detail` says which. 307: the path is another, `detail` is where. 414, 431: it is too long. 503: there is no server,
 * `detail` says why. A call of gRPC is answered with its status and no body, whose text a client shows.
 */
export function localAnswer(
  request: { readonly method: string; readonly isGrpc: boolean },
  status: 403 | 307 | 414 | 431 | 503,
  detail = "",
): LocalAnswer {
  if (request.isGrpc && status !== 307) {
    const grpcStatus = GRPC_OF[status] ?? GRPC.INTERNAL;
    const fields = [
      new HeaderField(":status", "200"),
      new HeaderField("content-type", "application/grpc"),
      new HeaderField("grpc-status", `${grpcStatus}`),
      new HeaderField("grpc-message", grpcMessage(detail === "" ? TEXTS[status] ?? "" : detail)),
    ];
    return { status: 200, grpcStatus, fields, body: NOTHING };
  }
  const text = status === 503 ? `${TEXTS[503]}: ${detail}\r\n` : status === 307 ? "" : TEXTS[status];
  const body = encoder.encode(text);
  const fields = [
    new HeaderField(":status", `${status}`),
    new HeaderField("content-length", `${body.length}`),
  ];
  if (status === 307) fields.push(new HeaderField("location", detail));
  else fields.push(new HeaderField("content-type", "text/plain"));
  return { status, grpcStatus: undefined, fields, body: request.method === "HEAD" ? NOTHING : body };
}

const TEXTS: Readonly<Record<number, string>> = {
  403: DENIED_BODY,
  414: "The path is too long\r\n",
  431: "The header fields are too large\r\n",
  503: "upstream connect error",
};

/** As gRPC's protocol has it: bytes of UTF-8, all but printable ASCII as %XX. */
function grpcMessage(text: string): string {
  let message = "";
  for (const byte of encoder.encode(text.trim())) {
    message += byte >= 32 && byte < 127 && byte !== 37
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return message;
}
