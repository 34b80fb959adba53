/**
 * Calls of a server, counted under the names that servers in Go give them, which dashboards and Hubble's own servers use:
 *
 *     grpc_server_started_total{grpc_type,grpc_service,grpc_method}
 *     grpc_server_handled_total{..., grpc_code}      grpc_server_msg_received_total      grpc_server_msg_sent_total
 *
 * Every method has its series from the start. What no method answers is counted as one of service "unknown".
 * @module
 */
import type { Counter, MetricsRegistry } from "@weir/common";
import type { GrpcMethods } from "./methods.ts";
import type { GrpcStatus } from "./status.ts";

/** How Go writes the codes, by the name on the wire. */
const CODES: Readonly<Record<GrpcStatus, string>> = {
  OK: "OK",
  CANCELLED: "Canceled",
  UNKNOWN: "Unknown",
  INVALID_ARGUMENT: "InvalidArgument",
  DEADLINE_EXCEEDED: "DeadlineExceeded",
  NOT_FOUND: "NotFound",
  ALREADY_EXISTS: "AlreadyExists",
  PERMISSION_DENIED: "PermissionDenied",
  RESOURCE_EXHAUSTED: "ResourceExhausted",
  FAILED_PRECONDITION: "FailedPrecondition",
  ABORTED: "Aborted",
  OUT_OF_RANGE: "OutOfRange",
  UNIMPLEMENTED: "Unimplemented",
  INTERNAL: "Internal",
  UNAVAILABLE: "Unavailable",
  DATA_LOSS: "DataLoss",
  UNAUTHENTICATED: "Unauthenticated",
};

interface Labels {
  readonly grpc_type: string;
  readonly grpc_service: string;
  readonly grpc_method: string;
}
const UNKNOWN: Labels = { grpc_type: "unary", grpc_service: "unknown", grpc_method: "unknown" };

/** Counts what one method is asked and answers. */
export interface CountedCall {
  received(): void;
  sent(messages: number): void;
  ended(status: GrpcStatus): void;
}

/** The counters of one server. */
export class CallMetrics {
  readonly #started: Counter;
  readonly #handled: Counter;
  readonly #received: Counter;
  readonly #sent: Counter;
  readonly #labels = new Map<string, Labels>();

  constructor(registry: MetricsRegistry, methods: GrpcMethods) {
    const counter = (what: string, help: string) => registry.counter(`grpc_server_${what}_total`, help);
    this.#started = counter("started", "Total number of RPCs started on the server.");
    this.#handled = counter("handled", "Total number of RPCs completed on the server, by their end.");
    this.#received = counter("msg_received", "Total number of messages that came to the server.");
    this.#sent = counter("msg_sent", "Total number of messages that the server sent.");
    for (const [path, { isUnary }] of Object.entries(methods)) {
      const [, grpc_service, grpc_method] = path.split("/");
      const labels = { grpc_type: isUnary ? "unary" : "server_stream", grpc_service, grpc_method };
      this.#labels.set(path, labels);
      for (const each of [this.#started, this.#received, this.#sent]) each.increment({ ...labels }, 0);
      this.#handled.increment({ ...labels, grpc_code: "OK" }, 0);
    }
  }

  /** A call began. */
  start(path: string): CountedCall {
    const labels = { ...this.#labels.get(path) ?? UNKNOWN };
    this.#started.increment(labels);
    return {
      received: () => this.#received.increment(labels),
      sent: (messages) => this.#sent.increment(labels, messages),
      ended: (status) => this.#handled.increment({ ...labels, grpc_code: CODES[status] }),
    };
  }
}
