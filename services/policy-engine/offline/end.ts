/**
 * Who may talk to whom in files: workloads, labels that nobody wrote down, the world, and prefixes and names that policies mean.
 * @module
 */
import {
  IDENTITY_ALLOCATED_MAX,
  IDENTITY_ALLOCATED_MIN,
  IDENTITY_HOST,
  IDENTITY_REMOTE_NODE,
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
  type LabelSet,
  Prefix,
} from "@weir/common";
import type { NamedPort } from "../named_ports.ts";
import { nameOf, type Workload } from "./inventory.ts";

/** One end. */
export interface End {
  /** For people: `shop/web`, `world (IPv4)`, `10.0.0.0/8`, `*.example.com`, `app=web in shop`. */
  readonly name: string;
  readonly type: "workload" | "labels" | "host" | "world" | "prefix" | "name";
  /** Of workloads and labels: the same in every cluster that the end is put into; 0 for others. */
  readonly number: number;
  /** Of workloads and labels. */
  readonly labels?: LabelSet;
  readonly ports?: readonly NamedPort[];
  /** Of the world and of prefixes. */
  readonly prefix?: Prefix;
  /** Of what a selector of names means: the selector's text. */
  readonly selector?: string;
}

/** Ends whose policy is judged: others have none of their own. */
export function isSubjectEnd(end: End): end is End & { readonly labels: LabelSet } {
  return end.labels !== undefined;
}

/** Ends outside of the workloads: the node and the world, each once. */
export const ENDS_OUTSIDE: readonly End[] = [
  { name: "host", type: "host", number: IDENTITY_HOST },
  { name: "other nodes", type: "host", number: IDENTITY_REMOTE_NODE },
  { name: "world (IPv4)", type: "world", number: IDENTITY_WORLD_IPV4, prefix: Prefix.parse("0.0.0.0/0") },
  { name: "world (IPv6)", type: "world", number: IDENTITY_WORLD_IPV6, prefix: Prefix.parse("::/0") },
];

/** A prefix as an end. */
export function prefixEnd(prefix: Prefix): End {
  return { name: prefix.text, type: "prefix", number: 0, prefix };
}

/** Addresses that a selector of names means, as far as no prefix is around them. */
export function nameEnd(selector: string, name: string): End {
  return { name, type: "name", number: 0, selector };
}

/** Workloads and sets of labels, numbered. */
export class EndNumbers {
  #next = IDENTITY_ALLOCATED_MIN;

  /** How many more may be numbered. */
  get room(): number {
    return IDENTITY_ALLOCATED_MAX - this.#next + 1;
  }

  workload(workload: Workload): End {
    const { labels, ports } = workload;
    return { name: nameOf(workload), type: "workload", number: this.#next++, labels, ports };
  }

  labels(name: string, labels: LabelSet): End {
    return { name, type: "labels", number: this.#next++, labels, ports: [] };
  }
}
