/**
 * The newest policy set that was in force on this node, kept so that a node that starts anew is given no older one, also where
 * none of its endpoints says it.
 * @module
 */
import { writeStateFile } from "./state_file.ts";

/** A policy set that was in force here. */
export interface NewestPolicySet {
  readonly policyRevision: number;
  /** The same as the policy engine named it, with the tag by which it is told from those of other histories of its database; "" unknown. */
  readonly policySet: string;
}

/** Where it is kept. */
export interface PolicySetStore {
  /** Undefined: nothing was kept, or it cannot be read. */
  load(): Promise<NewestPolicySet | undefined>;
  /** @throws {ProblemError} ENDPOINT_STORE_FAILED */
  save(newest: NewestPolicySet): Promise<void>;
}

/** It as a file. */
export class PolicySetFile implements PolicySetStore {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<NewestPolicySet | undefined> {
    try {
      const { policyRevision, policySet } = JSON.parse(await Deno.readTextFile(this.#path));
      if (!Number.isSafeInteger(policyRevision) || typeof policySet !== "string") return undefined;
      return { policyRevision, policySet };
    } catch {
      // It is told again; a broken file is written anew then.
      return undefined;
    }
  }

  async save(newest: NewestPolicySet): Promise<void> {
    await writeStateFile(this.#path, JSON.stringify(newest));
  }
}
