/**
 * Where flows come from: Hubble's Observer on the relay's unix socket, or where there is no relay on that of this node. One connection
 * carries all questions; it is made again with backoff, and the first socket that answers is taken.
 * @module
 */
import { Backoff, type Clock, errorText, type Logger, ProblemError } from "@weir/common";
import { connectGrpc, type GrpcConnection, GrpcError } from "@weir/grpc";
import type { Init } from "@weir/proto";
import {
  GetFlowsRequest,
  GetFlowsResponse,
  ServerStatusRequest,
  ServerStatusResponse,
} from "@weir/proto/observer";
import type { Sources } from "../api.ts";
import { nodeNameOf } from "./flow_end.ts";
import type { FlowPicture } from "./flow_picture.ts";

const GET_FLOWS = "/observer.Observer/GetFlows";
/** Newest flows of each node that a picture begins with. */
const FLOWS_AT_START = 4095;
const CONNECT_MS_MAX = 3000;
/** Nodes whose absence is told. */
const AWAY_MAX = 1000;
const UNASKED = "not asked yet";

/** Options of {@link FlowSource}. */
export interface FlowSourceOptions {
  /** Paths of sockets, the best first. */
  readonly sockets: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** How a picture is filled. */
export interface Follow {
  /** Filters; undefined: all flows, and what is told of the nodes beside them is what `sources()` says. */
  readonly request?: Init<GetFlowsRequest>;
  readonly signal: AbortSignal;
  /** Told of each batch, with "", and why there is none. */
  readonly onState: (error: string) => void;
}

/** The source. */
export class FlowSource {
  readonly #options: FlowSourceOptions;
  readonly #away = new Map<string, string>();
  readonly #connected = new Set<string>();
  #connection: Promise<GrpcConnection> | undefined;
  #error = UNASKED;

  constructor(options: FlowSourceOptions) {
    this.#options = options;
    options.signal.addEventListener("abort", () => this.rest());
  }

  /** Closes the connection; the next question makes another one. For when nothing is asked. */
  rest(): void {
    this.#connection?.then((one) => one.close("nobody looks"), () => {});
    this.#connection = undefined;
  }

  /** How it is; `lost` is what the picture counts. */
  sources(lost: number): Sources {
    return {
      error: this.#error,
      connected: [...this.#connected].sort(),
      away: [...this.#away].map(([node, reason]) => ({ node, reason })),
      lost,
    };
  }

  /** Fills a picture until the signal ends. Never rejects. */
  async follow(picture: FlowPicture, { request: filters, signal, onState }: Follow): Promise<void> {
    const { clock, log } = this.#options, isWhole = filters === undefined;
    const backoff = new Backoff({ delayMsMin: 250, delayMsMax: 5000 });
    let sinceMs: number | undefined, error: string | undefined;
    const tell = (text: string) => {
      if (text !== error && text !== "") log.warn("Flows do not come", { reason: text });
      error = text;
      if (isWhole) this.#error = text;
      onState(text);
    };
    if (isWhole) {
      // What was told to a picture that is gone holds no more.
      this.#error = UNASKED;
      this.#away.clear();
      this.#connected.clear();
    }
    while (!signal.aborted) {
      const request: Init<GetFlowsRequest> = { ...filters, number: FLOWS_AT_START, follow: true };
      // What was missed, and nothing twice.
      if (sinceMs !== undefined) {
        request.number = 0;
        request.since = { seconds: Math.floor(sinceMs / 1000), nanos: Math.floor(sinceMs % 1000) * 1e6 };
      }
      try {
        for await (const answers of this.stream(request, signal)) {
          if (signal.aborted) return;
          backoff.reset();
          const nowMs = clock.nowMs();
          for (const answer of answers) {
            if (answer.flow) picture.add(answer.flow, nowMs / 1000);
            else if (answer.lost_events) picture.lose(answer.lost_events.num_events_lost, nowMs / 1000);
            if (isWhole) this.#note(answer);
          }
          tell("");
          sinceMs = nowMs;
        }
        if (!signal.aborted) tell("the stream of flows ended");
      } catch (error) {
        if (!signal.aborted) tell(errorText(error));
      }
      await clock.sleep(backoff.nextMs(), signal);
    }
  }

  /**
   * Answers of one question, those that came together at once. An empty batch comes first, when the source has taken the question.
   * @throws {ProblemError} FLOWS_UNREACHABLE, or what the filter is refused with
   */
  async *stream(request: Init<GetFlowsRequest>, signal: AbortSignal): AsyncGenerator<GetFlowsResponse[]> {
    const connection = await this.#connect();
    yield [];
    try {
      for await (const batch of connection.stream(GET_FLOWS, GetFlowsRequest.encode(request), { signal })) {
        yield batch.map((bytes) => GetFlowsResponse.decode(bytes));
      }
    } catch (error) {
      if (signal.aborted) return;
      throw problemOf(error);
    }
  }

  /** How many flows there are. @throws {ProblemError} */
  async status(): Promise<ServerStatusResponse> {
    const connection = await this.#connect();
    try {
      return await connection.unary(
        "/observer.Observer/ServerStatus",
        [ServerStatusRequest, ServerStatusResponse],
        {},
        { deadlineMs: 5000 },
      );
    } catch (error) {
      throw problemOf(error);
    }
  }

  #note({ node_status: status }: GetFlowsResponse): void {
    for (const node of status?.node_names ?? []) {
      const name = nodeNameOf(node);
      this.#connected.delete(name);
      this.#away.delete(name);
      if (status!.state_change === "NODE_CONNECTED") this.#connected.add(name);
      else if (status!.state_change !== "NODE_GONE" && this.#away.size < AWAY_MAX) {
        this.#away.set(name, status!.message || "away");
      }
    }
  }

  async #connect(): Promise<GrpcConnection> {
    const running = this.#connection ??= this.#open();
    try {
      const connection = await running;
      connection.closed.then(() => this.#connection === running && (this.#connection = undefined));
      return connection;
    } catch (error) {
      if (this.#connection === running) this.#connection = undefined;
      throw error;
    }
  }

  async #open(): Promise<GrpcConnection> {
    const { sockets, clock, signal } = this.#options, reasons: string[] = [];
    for (const path of sockets) {
      try {
        return await connectGrpc({ path }, { clock, signal, limits: { connectMsMax: CONNECT_MS_MAX } });
      } catch (error) {
        reasons.push(errorText(error));
      }
    }
    throw new ProblemError("FLOWS_UNREACHABLE", {
      status: 503,
      detail: `Cannot reach the flows: ${reasons.join("; ") || "no socket was named"}`,
      action: "Does the relay run (weir status)? May this user open its socket?",
    });
  }
}

function problemOf(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  const isWrong = error instanceof GrpcError && error.status === "INVALID_ARGUMENT";
  return new ProblemError(isWrong ? "QUERY_INVALID" : "FLOWS_UNREACHABLE", {
    status: isWrong ? 400 : 503,
    detail: errorText(error),
    cause: error,
  });
}
