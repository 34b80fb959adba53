/**
 * What the cluster gave this node, kept so that a node whose control plane is away starts with the pod CIDRs that its
 * endpoints' addresses are from.
 * @module
 */
import { Node } from "@weir/proto/identity";
import { writeStateFile } from "./state_file.ts";

const LAST_SUFFIX = ".last-addresses";

/** Where the node is kept. */
export interface NodeStore {
  /** Undefined: nothing was kept, or it cannot be read. */
  load(): Promise<Node | undefined>;
  /** @throws {ProblemError} ENDPOINT_STORE_FAILED */
  save(node: Node): Promise<void>;
  /** Addresses that were given last, one of each pod CIDR; none: nothing was kept. */
  loadLastGiven(): Promise<string[]>;
  /** Keeps them, as far as that can be done. */
  saveLastGiven(addresses: readonly string[]): Promise<void>;
}

/** The node as a file. */
export class NodeFile implements NodeStore {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<Node | undefined> {
    try {
      return Node.fromJson(JSON.parse(await Deno.readTextFile(this.#path)));
    } catch {
      // It is asked for again; a broken file is written anew then.
      return undefined;
    }
  }

  async save(node: Node): Promise<void> {
    await writeStateFile(this.#path, JSON.stringify(Node.toJson(node)));
  }

  async loadLastGiven(): Promise<string[]> {
    try {
      return (await Deno.readTextFile(`${this.#path}${LAST_SUFFIX}`)).split("\n").filter((text) =>
        text !== ""
      );
    } catch {
      return [];
    }
  }

  async saveLastGiven(addresses: readonly string[]): Promise<void> {
    // Written with each new endpoint, and read where it is whole: not worth waiting for the disk.
    await Deno.writeTextFile(`${this.#path}${LAST_SUFFIX}`, addresses.join("\n") + "\n").catch(() => {});
  }
}
