/**
 * What the cluster gave this node, kept so that a node whose control plane is away starts with the pod CIDRs that its
 * endpoints' addresses are from.
 * @module
 */
import { Node } from "@weir/proto/identity";
import { writeStateFile } from "./state_file.ts";

/** Where the node is kept. */
export interface NodeStore {
  /** Undefined: nothing was kept, or it cannot be read. */
  load(): Promise<Node | undefined>;
  /** @throws {ProblemError} ENDPOINT_STORE_FAILED */
  save(node: Node): Promise<void>;
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
}
