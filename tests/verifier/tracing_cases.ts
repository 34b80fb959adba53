/**
 * Our verdict on a tracing program beside the running kernel's. Programs are loaded, never attached or run.
 *
 * @module
 */

import { type Btf, settleBy } from "@weir/object";
import { Kernel } from "../../scripts/probe/kernel.ts";
import type { Subject, Verdict } from "./subject.ts";
import { generateTracing, tracingRequest, type TracingTarget, tracingTargets } from "./tracing_generator.ts";

/**
 * Seen on 6.18.44 for the iterators that lend a buffer (bpf_map_elem, bpf_sk_storage_map, sockmap), whatever the program is:
 * a policy of that kernel and no verdict on a program.
 */
const EPERM = 1;

/** What was seen. */
export interface TracingCounts {
  programs: number;
  /** Both accept. */
  accepted: number;
  /** Both refuse. */
  refused: number;
  /** The same, ours by code. */
  codes: Map<string, number>;
  /** The kernel accepts, ours refuses, by code. */
  stricter: Map<string, number>;
  /** The kernel looked at no instruction: it lets nobody load for this target, so there is nothing to compare. */
  unjudged: Map<string, number>;
}

/** A program that ours accepts and the kernel refuses. */
export class TracingDefect extends Error {
  constructor(readonly seed: number, listing: string, log: string) {
    super(
      `seed ${seed}: ours accepts, the kernel says: ${
        log.trim().split("\n").slice(-4).join(" | ")
      }\n${listing}`,
    );
    this.name = "TracingDefect";
  }
}

/** Compares verdicts. */
export class TracingCases {
  readonly counts: TracingCounts = {
    programs: 0,
    accepted: 0,
    refused: 0,
    codes: new Map(),
    stricter: new Map(),
    unjudged: new Map(),
  };
  readonly targets: readonly TracingTarget[];
  readonly #kernel = new Kernel();

  constructor(readonly subject: Subject, readonly types: Btf) {
    this.targets = tracingTargets(types);
  }

  /** Gives the descriptors back. */
  close(): void {
    this.#kernel.close();
  }

  /** One program; throws {@link TracingDefect} when ours accepts what the kernel refuses. */
  compare(seed: number): Verdict {
    const program = generateTracing(this.types, this.targets, seed);
    const ours = settleBy(
      tracingRequest(this.types, program),
      (request) => this.subject.verifyRequest(request),
      ({ report }) => report,
    );
    const kernel = this.#kernel.load({
      type: 26,
      expectedAttachType: program.target.attach,
      attachBtfId: program.target.btfId,
      flags: program.flags,
      instructions: program.instructions,
    });
    if (kernel.ok) this.#kernel.closeFd(kernel.fd);
    const { counts } = this;
    counts.programs++;
    if (ours.verdict === "broken") throw new Error(`seed ${seed}: ${ours.message}\n${program.listing}`);
    if (!kernel.ok && kernel.errno === EPERM && kernel.log.includes("processed 0 insns")) {
      const { name } = program.target;
      counts.unjudged.set(name, (counts.unjudged.get(name) ?? 0) + 1);
    } else if (ours.verdict === "accepted") {
      if (!kernel.ok) throw new TracingDefect(seed, program.listing, `${kernel.log} (errno ${kernel.errno})`);
      counts.accepted++;
    } else if (kernel.ok) {
      const key = `${ours.code} ${ours.message.replace(/0x[0-9a-f]+|-?\d+/g, "N")}`.slice(0, 120);
      counts.stricter.set(key, (counts.stricter.get(key) ?? 0) + 1);
    } else {
      counts.refused++;
      counts.codes.set(ours.code, (counts.codes.get(ours.code) ?? 0) + 1);
    }
    return ours;
  }
}
