/** One way to another node: what is sent there, what came of it, how it is. Pure: times are arguments, monotonic milliseconds. @module */
import type { NodePathState } from "@weir/proto/datapath";
import { PathMtu } from "./path_mtu.ts";
import type { PathSpec } from "./paths.ts";
import { HeardSamples, type Sample, SentSamples } from "./samples.ts";

/** Without an answer for so long a probe is lost; one that comes later still counts as answered, when the other was slow. */
export const ANSWER_MS_MAX = 2000;
/** Bytes of a small packet: headers and a probe. */
export const SMALL_BYTES: Readonly<Record<4 | 6, number>> = { 4: 60, 6: 80 };

/** Nothing came back so often in a row, and for so long: the other may just be starting. */
const UNREACHABLE_LOST = 4, UNREACHABLE_MS = 6000, NEVER_ANSWERED_MS = 15_000;
/** Loss that matters: so many of at least so many, and this part. */
const LOSSY_LOST = 3, LOSSY_JUDGED = 10, LOSSY_PART = 0.1;
/** So many small ones in a row must have arrived for a large one's loss to be because of its size. */
const RELIABLE = 3;

/** A packet on its way. */
export interface Probe {
  readonly channel: Channel;
  /** Bytes of the whole packet. */
  readonly size: number;
  readonly sentMs: number;
  /** Of small ones. */
  readonly sample?: Sample;
  /** It was taken for lost. */
  expired: boolean;
}

/** What there is to say of a way. */
export interface Judgement {
  state: NodePathState;
  stateSinceMs: number;
  mtuSinceMs: number | undefined;
}

/** State of one way. */
export class Channel {
  readonly sent = new SentSamples();
  readonly heard = new HeardSamples();
  readonly mtu: PathMtu;
  #sequence = 0;
  #begunMs: number;
  #answeredMs: number | undefined;
  #session: bigint | undefined;
  /** A whole large packet arrived since anything was amiss. */
  #wellByFull = false;
  #judgement: Judgement;
  readonly spec: PathSpec;

  constructor(spec: PathSpec, nowMs: number) {
    this.spec = spec;
    this.mtu = new PathMtu(spec.mtuWanted, SMALL_BYTES[spec.family]);
    this.#begunMs = nowMs;
    this.#judgement = { state: "UNKNOWN", stateSinceMs: nowMs, mtuSinceMs: undefined };
  }

  /** Sizes of packets to send now. @param large it is time for large ones too @param doubt something of this peer is amiss */
  sizes(large: boolean, doubt: boolean): number[] {
    // The underlay shows by large packets that it is well: small ones are for telling why it is not.
    const small = this.spec.kind === "POD" || doubt || !this.#wellByFull;
    return [...(small ? [SMALL_BYTES[this.spec.family]] : []), ...(large ? this.mtu.sizes() : [])];
  }

  /** A packet is sent. Small ones have a number. */
  begin(size: number, nowMs: number): { probe: Probe; sequence: number } {
    const small = size === SMALL_BYTES[this.spec.family];
    const sample = small ? this.sent.add() : undefined;
    const probe: Probe = { channel: this, size, sentMs: nowMs, sample, expired: false };
    return { probe, sequence: small ? ++this.#sequence : 0 };
  }

  /** @param session of the process that answered @param latencyMs undefined: not known */
  answered(probe: Probe, session: bigint, latencyMs: number | undefined, nowMs: number): void {
    // Another process than before, or the first word: what was lost meanwhile was lost on nobody.
    if (this.#session !== session) this.sent.clear();
    else if (this.#judgement.state === "UNREACHABLE") this.sent.endOutage();
    this.#session = session;
    this.#answeredMs = nowMs;
    if (probe.sample !== undefined) {
      probe.sample.state = "answered";
      probe.sample.latencyMs = probe.expired ? undefined : latencyMs;
    } else {
      this.mtu.arrived(probe.size);
      if (probe.size === this.spec.mtuWanted) this.#wholeArrived();
    }
    this.#judge(nowMs);
  }

  /** Nobody listens there: the way is well. */
  refused(probe: Probe, nowMs: number): void {
    if (probe.sample !== undefined) probe.sample.state = "refused";
    else this.mtu.unjudged(probe.size);
    this.#answeredMs = nowMs;
    this.#judge(nowMs);
  }

  /** It was too big: for the own device, or as somebody on the way says (`mtu` fits, 0: not said). */
  tooBig(probe: Probe, mtu: number, nowMs: number): void {
    this.mtu.hint(mtu);
    if (probe.sample !== undefined) probe.sample.state = "lost";
    else this.mtu.lost(probe.size);
    this.#judge(nowMs);
  }

  /** No answer came in time. */
  expired(probe: Probe, nowMs: number): void {
    probe.expired = true;
    if (probe.sample?.state === "waiting") probe.sample.state = "lost";
    if (probe.sample === undefined) {
      if (this.#reliable()) this.mtu.lost(probe.size);
      else this.mtu.unjudged(probe.size);
      if (probe.size === this.spec.mtuWanted) this.#wellByFull = false;
    }
    this.#judge(nowMs);
  }

  /** It is not known what became of it: this process stood still. */
  forgotten(probe: Probe): void {
    if (probe.sample?.state === "waiting") probe.sample.state = "unknown";
    if (probe.sample === undefined) this.mtu.unjudged(probe.size);
  }

  /** A small request of the other node came. */
  hear(session: bigint, sequence: number, nowMs: number): void {
    this.heard.heard(session, sequence, nowMs);
    this.#judge(nowMs);
  }

  /** Something may be amiss: it is looked at more often. */
  get doubt(): boolean {
    const { state } = this.#judgement;
    return state === "LOSSY" || state === "UNREACHABLE" || this.sent.lostInARow > 0 || this.mtu.suspect;
  }

  /** When anything came back, undefined: never. */
  get answeredMs(): number | undefined {
    return this.#answeredMs;
  }

  /** How long it has been as it is. */
  get judgement(): Readonly<Judgement> {
    return this.#judgement;
  }

  #wholeArrived(): void {
    this.#wellByFull = true;
    if (this.spec.kind === "UNDERLAY") this.sent.clear();
  }

  #reliable(): boolean {
    const newest = this.sent.judged.slice(-RELIABLE);
    return newest.length === RELIABLE && newest.every(({ state }) => state === "answered");
  }

  #judge(nowMs: number): void {
    const state = this.#state(nowMs), before = this.#judgement;
    const small = this.mtu.mtu !== undefined && this.mtu.mtu < this.spec.mtuWanted;
    this.#judgement = {
      state,
      stateSinceMs: state === before.state
        ? before.stateSinceMs
        : state === "UNREACHABLE"
        ? this.#answeredMs ?? this.#begunMs
        : nowMs,
      mtuSinceMs: small ? before.mtuSinceMs ?? nowMs : undefined,
    };
  }

  #state(nowMs: number): NodePathState {
    const { judged, lostInARow, loss } = this.sent;
    if (judged.at(-1)?.state === "refused") return "NOT_PROBING";
    const silentMs = nowMs - (this.#answeredMs ?? this.#begunMs);
    const patienceMs = this.#answeredMs === undefined ? NEVER_ANSWERED_MS : UNREACHABLE_MS;
    if (lostInARow >= UNREACHABLE_LOST && silentMs >= patienceMs) return "UNREACHABLE";
    if (judged.length >= LOSSY_JUDGED && loss * judged.length >= LOSSY_LOST - 0.5 && loss >= LOSSY_PART) {
      return "LOSSY";
    }
    return this.#answeredMs === undefined ? "UNKNOWN" : "OK";
  }
}
