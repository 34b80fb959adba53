/** The sending programs of all places, begun when they are needed. @module */
import { linesOf } from "./lines.ts";
import { Sender } from "./sender.ts";
import type { Place, PlaceProgram, Target } from "./target.ts";
import type { Probe, ProbeResult } from "./traffic.ts";

/** Sends from any place of a target. */
export class Senders {
  readonly #byPlace = new Map<string, Sender>();
  readonly #mtus = new Map<string, Promise<number>>();
  #isOver = false;

  constructor(readonly target: Target) {}

  /** Sends one probe. Never rejects. */
  async send(place: Place, probe: Omit<Probe, "id">): Promise<ProbeResult> {
    const key = keyOf(place);
    let sender = this.#byPlace.get(key);
    if (sender === undefined) {
      this.#byPlace.set(key, sender = new Sender(this.target.start(place, "send")));
    }
    if (this.#isOver) await sender.stop();
    return await sender.send(probe);
  }

  /** The largest packet that the devices of a place take, in bytes; of several the smallest. */
  mtu(place: Place): Promise<number> {
    const key = keyOf(place);
    let mtu = this.#mtus.get(key);
    if (mtu === undefined) this.#mtus.set(key, mtu = mtuOf(this.target.start(place, "mtu")));
    return mtu;
  }

  /** Ends all programs: what still waits ends as an error. Repeatable. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all([...this.#byPlace.values()].map((sender) => sender.stop()));
  }
}

function keyOf(place: Place): string {
  if (place === "outside") return place;
  return "node" in place ? place.node : `${place.pod.namespace}/${place.pod.name}`;
}

async function mtuOf(program: PlaceProgram): Promise<number> {
  try {
    for await (const line of linesOf(program.output)) if (Number(line) > 0) return Number(line);
  } finally {
    await program.stop();
  }
  throw new Error(`Cannot tell the MTU: ${program.stderr.trim().split("\n")[0]}`);
}
