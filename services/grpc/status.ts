/** How a call ends: gRPC's status codes, and which of them an error of ours becomes. @module */
import { ProblemError } from "@weir/common";
import { MessageError } from "@weir/proto";

/** Status codes by name, as on the wire (grpc-status). */
export const GRPC_STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** Name of a status code. */
export type GrpcStatus = keyof typeof GRPC_STATUS;

/** An end of a call other than OK. */
export class GrpcError extends Error {
  override readonly name = "GrpcError";
  constructor(readonly status: GrpcStatus, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

const OF_HTTP: Readonly<Record<number, GrpcStatus>> = {
  400: "INVALID_ARGUMENT",
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  409: "ABORTED",
  410: "OUT_OF_RANGE",
  413: "RESOURCE_EXHAUSTED",
  429: "RESOURCE_EXHAUSTED",
  501: "UNIMPLEMENTED",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
};

/** What any error is to a caller. An error that nobody meant says nothing of itself. Pure. */
export function grpcErrorOf(error: unknown): GrpcError {
  if (error instanceof GrpcError) return error;
  if (error instanceof MessageError) {
    return new GrpcError("INVALID_ARGUMENT", error.message, { cause: error });
  }
  if (error instanceof ProblemError) {
    const { detail, action } = error.problem;
    const status = OF_HTTP[error.status] ?? "INTERNAL";
    return new GrpcError(status, action ? `${detail}. ${action}` : detail, { cause: error });
  }
  return new GrpcError("INTERNAL", "an error inside the server: see its log", { cause: error });
}

/** A message as the header grpc-message has it: percent-encoded but for printable ASCII, at most 1,024 bytes. */
export function grpcMessageText(text: string): string {
  let out = "";
  for (const byte of new TextEncoder().encode(text.slice(0, 1024))) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    out += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return out;
}

/** The milliseconds that a caller gives (grpc-timeout: up to 8 digits and a unit), undefined for what is none. Pure. */
export function timeoutMs(header: string | undefined): number | undefined {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(header ?? "") ?? [];
  if (digits === undefined) return undefined;
  return Number(digits) * { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }[unit as "H"];
}
