/**
 * What Kubernetes says of this node: its labels and its zone, and the pod CIDRs that it gives (Node.spec.podCIDRs), of which the
 * first of each family counts.
 * @module
 */
import { Prefix } from "@weir/common";
import type { KubernetesNode } from "@weir/proto/kubernetes";
import type { Peer } from "./peer.ts";
import type { Kubernetes, Mirror } from "./sources.ts";

/** "" where there is none of a family. */
export interface PodCidrPair {
  readonly podCidrV4: string;
  readonly podCidrV6: string;
}

/** Follows this node's object. */
export class KubernetesNodeFacts implements Disposable {
  readonly #mirror: Mirror<KubernetesNode>;
  readonly #nodeName: string;

  /** @param onChange Kubernetes says something of this node */
  constructor(parts: { kubernetes: Kubernetes; peer: Peer; nodeName: string; onChange: () => void }) {
    this.#nodeName = parts.nodeName;
    const { onChange } = parts;
    this.#mirror = parts.peer.follow(parts.kubernetes.node({ onChange, onSynced: onChange }));
  }

  /** Whether Kubernetes was heard of this node. */
  get isKnown(): boolean {
    return this.#node !== undefined;
  }

  /** Undefined: Kubernetes has not given any yet, or was not heard. */
  get podCidrs(): PodCidrPair | undefined {
    const prefixes = (this.#node?.podCidrs ?? []).map((text) => Prefix.tryParse(text, { bare: false }))
      .filter((prefix) => prefix !== undefined);
    const of = (family: 4 | 6) => prefixes.find((prefix) => prefix.family === family)?.text ?? "";
    return prefixes.length === 0 ? undefined : { podCidrV4: of(4), podCidrV6: of(6) };
  }

  /** `""`: it names none, or was not heard. */
  get zone(): string {
    return this.#node?.zone ?? "";
  }

  /** "key=value". */
  get labels(): string[] {
    return Object.entries(this.#node?.labels ?? {}).map(([key, value]) => `${key}=${value}`);
  }

  get #node(): KubernetesNode | undefined {
    return this.#mirror?.get(this.#nodeName);
  }

  [Symbol.dispose](): void {
    this.#mirror[Symbol.dispose]();
  }
}
