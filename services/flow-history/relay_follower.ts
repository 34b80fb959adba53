/**
 * Follows the relay's stream of flows for as long as it runs: after every break again, from before it.
 * @module
 */
import { Backoff, type Clock, errorText, type Logger } from "@weir/common";
import { connectGrpc, type GrpcAddress } from "@weir/grpc";
import { GetFlowsRequest } from "@weir/proto/observer";
import { timestampOf } from "@weir/proto/timestamp";
import type { Intake } from "./intake.ts";

const PATH = "/observer.Observer/GetFlows";
const DELAY_MS_MIN = 100, DELAY_MS_MAX = 3000;

/** Follows the relay. */
export class RelayFollower {
  /** "" while it is connected, else why it is not. */
  away = "not connected yet";
  readonly #parts: { relay: GrpcAddress; intake: Intake; clock: Clock; log: Logger };
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(parts: { relay: GrpcAddress; intake: Intake; clock: Clock; log: Logger }) {
    this.#parts = parts;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, log, intake } = this.#parts, { signal } = this.#stop;
    const backoff = new Backoff({ delayMsMin: DELAY_MS_MIN, delayMsMax: DELAY_MS_MAX });
    while (!signal.aborted) {
      try {
        await this.#follow(() => backoff.reset());
        this.away = "the relay ended the stream";
      } catch (error) {
        if (signal.aborted) break;
        if (this.away === "") log.warn("Lost the relay", { error });
        this.away = errorText(error);
      }
      intake.nodes.broke();
      await clock.sleep(backoff.nextMs(), signal);
    }
  }

  async #follow(onAnswer: () => void): Promise<void> {
    const { relay, clock, intake } = this.#parts, { signal } = this.#stop;
    const connection = await connectGrpc(relay, { clock, signal });
    try {
      this.away = "";
      intake.nodes.asked(clock.monotonicMs());
      const sinceMs = intake.nodes.sinceMs(clock.nowMs()) ?? 0;
      const request = GetFlowsRequest.encode({ follow: true, since: timestampOf(sinceMs), traffic: true });
      for await (const messages of connection.stream(PATH, request, { signal })) {
        onAnswer();
        intake.take(messages);
      }
    } finally {
      connection.close();
    }
  }
}
