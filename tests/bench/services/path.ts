/**
 * One way to the server at one number of services, and what was measured on it.
 * @module
 */
import { inside, must } from "./namespaces.ts";

/** What `load client` prints. */
export interface Sample {
  rate: number;
  crr: { p50: number; p99: number };
  rr: { p50: number; p99: number };
}

/** One change of one backend. */
export interface ChangeCost {
  /** From the call until the kernel has it. */
  ms: number;
  /** Rules, or system calls on maps, that were written. */
  writes: number;
}

/** One way to the server at one number of services, and what was measured on it. */
export interface Path {
  name: string;
  client: string;
  address: string;
  port: number;
  samples: Sample[];
  changes: ChangeCost[];
  /** Takes one backend of the probed service away, or gives it back. */
  change?: () => Promise<ChangeCost>;
}

/** The middle one of some numbers. */
export const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** Connects, then asks on one connection; client and server share CPU 0, as across CPUs the wake-up hides all else. */
export async function measure(path: Path, load: string, ms: number): Promise<void> {
  const [command, ...args] = [
    ...inside(path.client),
    ...["taskset", "-c", "0", load, "client", path.address, `${path.port}`, `${ms}`],
  ];
  path.samples.push(JSON.parse(await must(command, args)));
}
