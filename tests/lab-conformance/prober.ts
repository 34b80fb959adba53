/** The sender and the receiver of every probe: `pod_prober.py`, one process for all pods. @module */
import { linesOf } from "../../services/connectivity/lines.ts";
import type { Probe } from "./cases.ts";

/** A pod as the prober knows it. */
export interface ProbedPod {
  /** namespace/name */
  readonly name: string;
  readonly netns: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

/** What came of the probes of one round. */
export interface Round {
  /** Probes that had another end than they should: what was seen of each. */
  readonly wrong: readonly { readonly probe: Probe; readonly family: number; readonly found: string }[];
  /** Datagrams that arrived when their round was over: what was taken for silence may have been slow. */
  readonly late: readonly (readonly [round: number, index: number])[];
  /** Connections and datagrams of this round. */
  readonly probes: number;
  /** Those that were not to arrive. */
  readonly denied: number;
  /** Those that were sent again. */
  readonly again: number;
}

/** How long what is to pass is tried: a slow machine is not a policy. */
const PATIENCE_S = 15;
const FAMILIES = [4, 6] as const;

/** One process with the sockets of all pods. */
export class Prober {
  #round = 0;
  readonly #child: Deno.ChildProcess;
  readonly #lines: AsyncGenerator<string>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #indexes: ReadonlyMap<string, number>;

  private constructor(pods: readonly ProbedPod[]) {
    const program = new URL("pod_prober.py", import.meta.url).pathname;
    this.#child = new Deno.Command("python3", { args: [program], stdin: "piped", stdout: "piped" }).spawn();
    this.#lines = linesOf(this.#child.stdout);
    this.#writer = this.#child.stdin.getWriter();
    this.#indexes = new Map(pods.map(({ name }, index) => [name, index]));
  }

  /** @param ports that every pod listens at */
  static async start(
    pods: readonly ProbedPod[],
    ports: readonly (readonly [string, number])[],
  ): Promise<Prober> {
    const prober = new Prober(pods);
    await prober.#ask({
      pods: pods.map(({ netns, ipv4, ipv6 }) => ({ netns, 4: ipv4, 6: ipv6 })),
      ports,
    });
    return prober;
  }

  /** Tries every probe, by IPv4 and by IPv6. @param patience seconds for which what is to pass is tried */
  async run(probes: readonly Probe[], patience = PATIENCE_S): Promise<Round> {
    const each = FAMILIES.flatMap((family) => probes.map((probe) => ({ probe, family })));
    const answer = await this.#ask({
      round: ++this.#round,
      patience,
      probes: each.map(({ probe: { from, to, protocol, port, passes }, family }) => {
        const [source, target] = [from, to].map((name) => this.#indexes.get(name));
        return [source, target, family, protocol, port, passes];
      }),
    });
    return {
      wrong: answer.wrong.map(([index, found]: [number, string]) => ({ ...each[index], found })),
      late: answer.late,
      probes: each.length,
      denied: each.filter(({ probe }) => !probe.passes).length,
      again: answer.again,
    };
  }

  // deno-lint-ignore no-explicit-any
  async #ask(question: unknown): Promise<any> {
    await this.#writer.write(new TextEncoder().encode(`${JSON.stringify(question)}\n`));
    const { done, value } = await this.#lines.next();
    if (done) throw new Error("The prober ended");
    return JSON.parse(value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#child.status;
    await this.#lines.return(undefined);
  }
}
