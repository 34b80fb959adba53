/**
 * Another process that this node needs: every call to it has a deadline, and what is known of it is told to people: whether
 * it answers, since when, and what follows from it.
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import { PeerStatus, type PeerStatusState } from "@weir/proto/endpoint";

/** Longest wait for an answer, milliseconds. */
export const CALL_DEADLINE_MS = 10_000;
/** Longest wait for an answer to much at once (a whole ipcache, all services), milliseconds. */
export const BULK_DEADLINE_MS = 60_000;
/** A stream that says nothing for so long is silent, milliseconds: two and a half heartbeats of the server. */
export const SILENT_AFTER_MS = 25_000;

/** What a stream of a peer says of itself. */
export interface StreamState {
  readonly synced: boolean;
  readonly error: Error | undefined;
  readonly lastHeardMs: number;
}

/** Options of {@link Peer}. */
export interface PeerOptions {
  name: string;
  /** Where it is, for people. */
  address?: string;
  clock: Clock;
  /** What follows from a state that is not OK, for people. */
  effect: (status: { state: PeerStatusState; since: string; lastHeard: string; code: string }) => string;
  deadlineMs?: number;
}

const SILENT_CODES = new Set(["DEADLINE_EXCEEDED", "STREAM_SILENT"]);
const GONE_CODES = new Set(["UNREACHABLE", "STREAM_LOST", "STREAM_ENDED"]);

/** DEADLINE_EXCEEDED of a call. */
function deadlineExceeded(what: string, peer: string, ms: number): ProblemError {
  return new ProblemError("DEADLINE_EXCEEDED", {
    status: 503,
    detail: `Cannot ${what}: ${peer} did not answer within ${ms} ms`,
    found: `no answer in ${ms} ms`,
    expected: "an answer",
    action: "See whether the service hangs: weir status",
  });
}

/** How a failure to hear something is called. Undefined: it was an answer, if not the wanted one. */
function stateOf(error: Error): PeerStatusState | undefined {
  if (error.name === "TimeoutError" || (error.cause as Error | undefined)?.name === "TimeoutError") {
    return "SILENT";
  }
  if (!(error instanceof ProblemError)) return undefined;
  if (SILENT_CODES.has(error.code)) return "SILENT";
  if (GONE_CODES.has(error.code)) return "UNREACHABLE";
  return error.code === "NOT_READY" ? "STALE" : undefined;
}

/** What is known of a peer now. */
interface Judgement {
  state: PeerStatusState;
  error?: string;
  /** The error's, when it has one. */
  code?: string;
}

function told(error: Error): { error: string; code?: string } {
  return { error: error.message, code: (error as Partial<ProblemError>).code };
}

const timeText = (ms: number) => ms === 0 ? "never" : new Date(ms).toISOString().slice(11, 19);

/** One peer. */
export class Peer {
  readonly #options: PeerOptions;
  readonly #streams: StreamState[] = [];
  readonly #stale = new Map<string, string>();
  #state: PeerStatusState = "SILENT";
  #sinceMs: number;
  #heardMs = 0;
  #failure: Error | undefined;

  constructor(options: PeerOptions) {
    this.#options = options;
    this.#sinceMs = options.clock.nowMs();
  }

  get name(): string {
    return this.#options.name;
  }

  /**
   * Calls it. A late answer is dropped: whoever asked asks again and compares.
   * @param what for the message, e.g. "allocate an identity"
   * @param deadlineMs default: the peer's
   * @throws {ProblemError} DEADLINE_EXCEEDED, or what the call throws
   */
  async call<T>(
    what: string,
    action: () => Promise<T>,
    deadlineMs = this.#options.deadlineMs ?? CALL_DEADLINE_MS,
  ): Promise<T> {
    const { clock, name } = this.#options;
    const answered = new AbortController();
    const late = clock.sleep(deadlineMs, answered.signal).then(() => {
      if (!answered.signal.aborted) throw deadlineExceeded(what, `the ${name}`, deadlineMs);
      return undefined as never;
    });
    const answer = action();
    answer.catch(() => {}); // after the deadline nobody listens
    try {
      const value = await Promise.race([answer, late]);
      this.#heard(undefined);
      return value;
    } catch (error) {
      this.#heard(error as Error);
      throw error;
    } finally {
      answered.abort();
    }
  }

  /** Adds a stream whose health is the peer's. */
  follow<S extends StreamState>(stream: S): S {
    this.#streams.push(stream);
    return stream;
  }

  /** It answers, but knows less than was known; `undefined` ends that. @param topic one of several reasons */
  setStale(topic: string, reason: string | undefined): void {
    if (reason === undefined) this.#stale.delete(topic);
    else this.#stale.set(topic, reason);
  }

  /** When something was heard last, milliseconds; 0: never. */
  get lastHeardMs(): number {
    return this.#streams.reduce((last, stream) => Math.max(last, stream.lastHeardMs), this.#heardMs);
  }

  get state(): PeerStatusState {
    return this.#judge().state;
  }

  /** For people. */
  status(): PeerStatus {
    const { state, error, code = "" } = this.#judge();
    const { name, address = "", effect } = this.#options;
    const lastHeardMs = this.lastHeardMs;
    return PeerStatus.create({
      name,
      address,
      state,
      sinceUnixS: this.#sinceMs / 1000,
      lastHeardUnixS: lastHeardMs / 1000,
      error: error ?? "",
      effect: state === "OK"
        ? ""
        : effect({ state, since: timeText(this.#sinceMs), lastHeard: timeText(lastHeardMs), code }),
    });
  }

  #heard(error: Error | undefined): void {
    const state = error && stateOf(error);
    if (state === undefined || state === "STALE") this.#heardMs = this.#options.clock.nowMs();
    this.#failure = state === undefined ? undefined : error;
    this.#judge();
  }

  #judge(): Judgement {
    const found = this.#look();
    if (found.state !== this.#state) {
      this.#state = found.state;
      this.#sinceMs = this.#options.clock.nowMs();
    }
    return found;
  }

  #look(): Judgement {
    if (this.#failure) return { state: stateOf(this.#failure)!, ...told(this.#failure) };
    const now = this.#options.clock.nowMs();
    for (const { error, lastHeardMs } of this.#streams) {
      // Its calls are answered: what is missing is only what has changed meanwhile.
      const answers = this.#heardMs > 0 && now - this.#heardMs < SILENT_AFTER_MS;
      if (error) return { state: answers ? "STALE" : stateOf(error) ?? "STALE", ...told(error) };
      if (lastHeardMs > 0 && now - lastHeardMs > SILENT_AFTER_MS) {
        return { state: "SILENT", error: `A stream has said nothing since ${timeText(lastHeardMs)}` };
      }
    }
    for (const reason of this.#stale.values()) return { state: "STALE", error: reason };
    if (this.lastHeardMs === 0 && !this.#streams.some((stream) => stream.synced)) {
      return { state: "SILENT", error: "It was not heard of yet" };
    }
    return { state: "OK" };
  }
}
