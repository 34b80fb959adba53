/**
 * The numbers of this node's endpoints: asked of the directory, and compared with what it knows for as long as they run.
 *
 *     runs already      claim (number, labels)     the directory writes it down, or names another number: the endpoint moves
 *     new, relabelled   allocate (labels)          only after everything that runs was claimed
 *     gone              release (holder)
 *
 * @module
 */
import { type Clock, IDENTITY_ALLOCATED_MIN, SetDigest } from "@weir/common";
import { Holder } from "@weir/proto/identity";
import type { EndpointManagerConfig } from "./config.ts";
import type { EndpointTable } from "./endpoint_table.ts";
import { identityLabels } from "./endpoint_labels.ts";
import type { Peer } from "./peer.ts";
import type { Directory, IdentityClaim } from "./sources.ts";
import { askedLabels, givenIdentity, settledIdentity, type Workload } from "./workload.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** Claims in one call. */
export const CLAIMS_MAX = 500;

const CLAIMS = "claims", HOLDERS = "holders";
const ENDPOINT = "endpoint ";

/** What {@link IdentityReconciler} is made of. */
export interface IdentityReconcilerParts {
  table: EndpointTable;
  directory: Directory;
  peer: Peer;
  config: EndpointManagerConfig;
  clock: Clock;
  /** Whether the directory knows this node: before, it takes no claims. What waits is to be reconciled again then. */
  isRegistered: () => boolean;
  /** The directory gave an endpoint an identity, or confirmed it. */
  onGiven: (workload: Workload) => void;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Digest of what a node holds, the same as the directory's. */
export function holdersDigest(
  node: string,
  holders: Iterable<readonly [holder: string, number: number]>,
): string {
  const digest = new SetDigest();
  for (const [holder, number] of holders) digest.add(Holder.encode({ node, holder, number }));
  return digest.text;
}

/** Asks and compares, in a queue of its own. */
export class IdentityReconciler {
  readonly #parts: IdentityReconcilerParts;
  readonly #queue: WorkQueue;

  constructor(parts: IdentityReconcilerParts) {
    this.#parts = parts;
    this.#queue = new WorkQueue({
      clock: parts.clock,
      work: (key) => this.#work(key),
      onResult: (key, failure) => this.#onResult(key, failure),
    });
  }

  /** An endpoint may need a number. */
  reconcile(name: string): void {
    this.#queue.add(ENDPOINT + name);
  }

  /** The directory may have forgotten: everything that runs is claimed again. */
  claimAll(): void {
    for (const { given } of this.#parts.table.workloads()) if (given) given.confirmed = false;
    this.#queue.add(CLAIMS);
  }

  /** Compares with a digest of the directory's; lists and repairs when it differs. */
  compare(digest: string): void {
    const held = new Map<string, number>();
    for (const workload of this.#parts.table.workloads()) {
      if (isHeld(workload)) held.set(workload.spec.name, workload.given!.number);
    }
    if (holdersDigest(this.#parts.config.nodeName, held) !== digest) this.#queue.suggest(HOLDERS);
  }

  /** Ends what an endpoint that is gone holds. @throws what the directory answers */
  async release(name: string): Promise<void> {
    const { directory, peer } = this.#parts;
    await peer.call(`release the identity of ${name}`, () => directory.release(name));
    this.#queue.forget(ENDPOINT + name);
  }

  async idle(): Promise<void> {
    await this.#queue.idle();
  }
  get isIdle(): boolean {
    return this.#queue.isIdle;
  }
  async stop(): Promise<void> {
    await this.#queue.stop();
  }

  #onResult(key: string, failure: Failure | undefined): void {
    const { table, config } = this.#parts;
    const doubt = (workload: Workload | undefined) => {
      if (!workload || workload.status.identity === 0) return;
      const settled = settledIdentity(workload, config)?.confirmed;
      if (failure && !settled) {
        table.setCondition(
          workload,
          "IDENTITY_IN_DOUBT",
          `It keeps identity ${workload.status.identity} and its policy: ${failure.error.message}`,
        );
      } else if (settled) table.setCondition(workload, "IDENTITY_IN_DOUBT", undefined);
    };
    if (key.startsWith(ENDPOINT)) doubt(table.get(key.slice(ENDPOINT.length)));
    else for (const workload of table.workloads()) doubt(workload);
    this.#parts.onResult(key, failure);
  }

  async #work(key: string): Promise<void> {
    if (!this.#parts.isRegistered()) return;
    if (key === CLAIMS) return await this.#claim();
    if (key === HOLDERS) return await this.#repairHolders();
    const workload = this.#parts.table.get(key.slice(ENDPOINT.length));
    if (!workload || workload.deleting || workload.unwritten) return;
    // Numbers in use come first: else a new endpoint could be given one of them.
    await this.#claim();
    if (settledIdentity(workload, this.#parts.config)?.confirmed) return;
    await this.#allocate(workload);
  }

  async #allocate(workload: Workload): Promise<void> {
    const { directory, peer, config, onGiven } = this.#parts;
    const { name } = workload.spec;
    const labels = identityLabels(workload, config), askedFor = askedLabels(workload, config);
    const identity = await peer.call(
      `allocate an identity for ${name}`,
      () => directory.allocate(labels, name),
    );
    if (workload.deleting) return;
    workload.given = givenIdentity(identity, askedFor);
    onGiven(workload);
  }

  /** Claims whatever runs and was not confirmed. */
  async #claim(): Promise<void> {
    const { table, directory, peer, config, onGiven } = this.#parts;
    const claims: IdentityClaim[] = [], asked = new Map<string, string>();
    for (const workload of table.workloads()) {
      const claim = this.#claimOf(workload);
      if (!claim) continue;
      claims.push(claim);
      asked.set(claim.holder, askedLabels(workload, config));
    }
    const errors: string[] = [];
    for (let i = 0; i < claims.length; i += CLAIMS_MAX) {
      const part = claims.slice(i, i + CLAIMS_MAX);
      const answers = await peer.call("claim the identities that are in use", () => directory.claim(part));
      for (const { holder, identity, error } of answers) {
        const workload = table.get(holder);
        if (!workload || workload.deleting || !asked.has(holder)) continue;
        if (identity && identity.number !== 0) {
          workload.given = givenIdentity(identity, asked.get(holder)!);
          onGiven(workload);
        } else errors.push(`${holder}: ${error || "no identity came back"}`);
      }
    }
    if (errors.length === 0) return;
    throw new Error(
      `Cannot claim ${errors.length} of ${claims.length} identities: ${errors.slice(0, 3).join("; ")}`,
    );
  }

  #claimOf(workload: Workload): IdentityClaim | undefined {
    const { config } = this.#parts;
    const { spec, status, given, deleting } = workload;
    if (deleting || given?.confirmed) return undefined;
    // Of one that was relabelled the number is that of its old labels.
    if (given && given.askedFor !== askedLabels(workload, config)) return undefined;
    const number = given?.number ?? (workload.restored ? status.identity : 0);
    if (number === 0) return undefined;
    // As the directory filtered them; of a file of an older version only the endpoint's own are known.
    return { holder: spec.name, number, labels: given?.labels ?? identityLabels(workload, config) };
  }

  async #repairHolders(): Promise<void> {
    const { table, directory, peer } = this.#parts;
    const holders = await peer.call("list what this node holds", () => directory.holders());
    for (const workload of table.workloads()) {
      const { given, spec } = workload;
      if (isHeld(workload) && holders.get(spec.name) !== given!.number) given!.confirmed = false;
    }
    await this.#claim();
    for (const holder of holders.keys()) {
      if (!table.get(holder)) {
        await peer.call(`release the identity of ${holder}`, () => directory.release(holder));
      }
    }
  }
}

/** Reserved numbers are held by nobody. */
function isHeld({ given }: Workload): boolean {
  return given?.confirmed === true && given.number >= IDENTITY_ALLOCATED_MIN;
}
