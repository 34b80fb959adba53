/**
 * This node's endpoints in its datapath: the policy first, then the endpoint with its identity, then (elsewhere) the
 * announcement. A move to another identity is one write of both, after the new policy is there, so nothing is open in
 * between. What is not known changes nothing of what is in force.
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { type Clock, enforcedAs, IDENTITY_INIT, IpAddress, isFqdnIdentity } from "@weir/common";
import type { Init } from "@weir/proto";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import type { EndpointManagerConfig } from "./config.ts";
import { EndpointConditions } from "./endpoint_conditions.ts";
import type { EndpointTable } from "./endpoint_table.ts";
import type { NodeConfigurator } from "./node_datapath.ts";
import type { NodeRegistration } from "./node_registration.ts";
import { BULK_DEADLINE_MS, type Peer } from "./peer.ts";
import type { NodeNames } from "./names/node_names.ts";
import { CLOSED_POLICY, type PolicyReconciler } from "./policy_reconciler.ts";
import { mayRedirect, policyName } from "./policy_variant.ts";
import type { PrefixOrder } from "./prefix_order.ts";
import type { ProxyReconciler } from "./proxy_reconciler.ts";
import type { Datapath, Mirror } from "./sources.ts";
import { settledIdentity, variantOf, type Workload } from "./workload.ts";
import { hasNoAddress } from "./endpoint_labels.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

const CONFIG = "node configuration", UNUSED = "policies without endpoints", SYNC = "sync";
const FOUND = "what the datapath has", COVER = "prefixes that policies are to cover";
const ENDPOINT = "endpoint ";
const CANNOT_ATTACH = "Cannot attach";

/** What {@link EndpointReconciler} is made of. */
export interface EndpointReconcilerParts {
  config: EndpointManagerConfig;
  table: EndpointTable;
  registration: NodeRegistration;
  configurator: NodeConfigurator;
  policies: PolicyReconciler;
  /** Has an endpoint whose policy has L7 rules before the datapath sends it connections of it. */
  proxy: Pick<ProxyReconciler, "giveEndpoint" | "keepOnly">;
  prefixes: PrefixOrder;
  names: NodeNames;
  datapath: Datapath;
  peer: Peer;
  clock: Clock;
  /** What an earlier process left in the datapath is known: from now on it may be changed. */
  onFound: () => void;
  /** Whether everything that is not an endpoint was told, so that what nothing desires may be swept. */
  maySweep: () => boolean;
  /** Whether the datapath has a whole ipcache: before, map states may wait for prefixes in it. */
  isIpcacheWhole: () => boolean;
  /** Which process of the datapath is told: no other one may sweep. Undefined before it was heard. */
  process: () => string | undefined;
  /** The node's configuration was news to the datapath. */
  onConfigured: () => void;
  /** An endpoint is in the kernel as it should be, or something of it has changed there. */
  onApplied: (workload: Workload) => void;
  /** What is to be kept of an endpoint has changed. */
  onKept: (workload: Workload) => void;
  /** The kernel has let go of an endpoint. */
  onKernelGone: (workload: Workload) => void;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Attaches, changes and removes, in a queue of its own. */
export class EndpointReconciler {
  readonly #parts: EndpointReconcilerParts;
  readonly #queue: WorkQueue;
  #swept = false;
  #isFound = false;
  #foundProcess: string | undefined;
  readonly #conditions: EndpointConditions;
  /** The newest policy revision that was given to be kept. */
  #newestKept = 0;

  constructor(parts: EndpointReconcilerParts) {
    this.#parts = parts;
    this.#conditions = new EndpointConditions(parts);
    this.#queue = new WorkQueue({
      clock: parts.clock,
      work: (key) => this.#work(key),
      onResult: (key, failure) => this.#onResult(key, failure),
    });
  }

  /** True once the datapath has swept what nothing desires. */
  get swept(): boolean {
    return this.#swept;
  }

  /** True once it is known what an earlier process left in the datapath. */
  get isFound(): boolean {
    return this.#isFound;
  }

  /** Epoch of the process of the datapath that said so. */
  get foundProcess(): string | undefined {
    return this.#foundProcess;
  }

  /** Asks the datapath what it has. To be called first. */
  find(): void {
    this.#queue.add(FOUND);
  }
  /** Policies are to cover other prefixes or names. `isUrgent`: also where they were just asked in vain. */
  cover(isUrgent = false): void {
    if (isUrgent) this.#queue.add(COVER);
    else this.#queue.suggest(COVER);
  }
  /** The kernel has prefixes that map states may wait for. */
  onPrefixes(): void {
    for (const name of this.#conditions.waiting()) this.reconcile(name);
  }

  /** What some endpoints could not be given for may be there. */
  retryFailed(): void {
    for (const name of this.#parts.table.names()) if (this.failureOf(name)) this.reconcile(name);
    if (this.#queue.failureOf(COVER)) this.#queue.add(COVER);
  }

  reconcile(name: string): void {
    this.#queue.add(ENDPOINT + name);
  }
  /** The node's configuration may have changed. */
  configure(): void {
    this.#queue.add(CONFIG);
  }
  /** Sweeps when everything is there. */
  sweep(): void {
    if (!this.#swept) this.#queue.suggest(SYNC);
  }
  /** Nothing of an endpoint is left. */
  forget(name: string): void {
    this.#queue.forget(ENDPOINT + name);
    this.#conditions.setWaiting(name, false);
    this.#queue.add(UNUSED);
  }

  /** The datapath is there anew: whatever it was given must be given again. */
  forgetApplied(): void {
    this.#parts.configurator.forget();
    this.#parts.policies.forget();
    this.#swept = false;
    this.#queue.add(CONFIG);
    this.#queue.add(COVER);
    for (const workload of this.#parts.table.workloads()) {
      // Also what was on its way: the kernel may have it.
      if (workload.applied || workload.status.policy !== "") workload.restored = true;
      workload.applied = workload.mapState = undefined;
      this.#queue.add(ENDPOINT + workload.spec.name);
    }
    this.#queue.add(SYNC);
  }

  /** Compares with what the datapath says that it was given: a late call may have come after the newest. */
  compare(there: Mirror<DatapathEndpoint>): void {
    if (!there.synced || there.error) return;
    for (const workload of this.#parts.table.workloads()) {
      const { applied, spec: { name } } = workload;
      const row = applied && there.get(name);
      if (!applied || (row && row.identity === applied.identity && row.policy === applied.policy)) continue;
      workload.applied = undefined;
      this.reconcile(name);
    }
  }

  /** Addresses of an endpoint, if the node's pools are known; repeatable. @throws {IpamError} */
  giveAddresses({ spec, status }: Workload): void {
    if (hasNoAddress(spec)) return;
    const { poolV4, poolV6, pools } = this.#parts.registration;
    // The addresses of a device that another CNI plugin made are all that it has.
    const hasAll = spec.device !== "" && spec.containerId !== "";
    for (
      const [key, pool, named, family] of [
        ["ipv4", poolV4, spec.poolV4, 4],
        ["ipv6", poolV6, spec.poolV6, 6],
      ] as const
    ) {
      const wanted = status[key] || spec[key];
      if (named !== "" && wanted !== "") {
        pools.claim(named, IpAddress.parse(wanted), spec.name);
        status[key] = wanted;
      } else if (named !== "" && !hasAll) {
        status[key] = pools.allocate(named, family, spec.name)?.text ?? "";
      } else if (wanted !== "") {
        const address = IpAddress.parse(wanted);
        // A device may carry an address of its own that no pool knows, and an endpoint one of the node's pool before.
        const isFree = spec.device !== "" || status[key] !== "";
        if (pool && (pool.prefix.contains(address) || !isFree)) pool.claim(address, spec.name);
        status[key] = wanted;
      } else if (pool && !hasAll) {
        status[key] = pool.allocate(spec.name).text;
      }
    }
  }

  /** The endpoint that keeps the first sweep waiting, for people. */
  waitsFor(): string | undefined {
    for (const workload of this.#parts.table.workloads()) {
      if (this.#isUntold(workload)) return workload.spec.name;
    }
  }

  /** Whether every endpoint has the newest map state that was told, or its conditions say why not. */
  get areApplied(): boolean {
    const { table, policies, isIpcacheWhole } = this.#parts;
    for (const workload of table.workloads()) {
      const { status, mapState, applied, deleting, restored, conditions, spec: { name } } = workload;
      const passesNothing = status.policy === CLOSED_POLICY ||
        (!applied && !restored && status.policy === "");
      if (deleting || passesNothing || conditions.has("POLICY_FAILED")) continue;
      const newest = policies.mapState(status.identity);
      if (newest === undefined || (applied && mapState === newest)) continue;
      const waits = this.#conditions.isWaiting(name) &&
        (this.#conditions.isLate(workload) || !isIpcacheWhole());
      if (!waits) return false;
    }
    return true;
  }

  failureOf(name: string): Failure | undefined {
    return this.#queue.failureOf(ENDPOINT + name);
  }
  failure(): Failure | undefined {
    return this.#queue.failureOf(FOUND) ?? this.#queue.failureOf(CONFIG) ?? this.#queue.failureOf(COVER) ??
      this.#queue.failureOf(SYNC);
  }
  /** Looks at the conditions of all endpoints again: the policy engine was lost, or is back. */
  judgePolicies(): void {
    this.#conditions.judgePolicies();
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

  async #work(key: string): Promise<void> {
    if (key === FOUND) return await this.#find();
    if (!this.#isFound) return;
    if (key === CONFIG) return await this.#configure();
    if (key === COVER) return await this.#cover();
    if (key === UNUSED) return await this.#dropUnusedPolicies();
    if (key === SYNC) return await this.#sync();
    const workload = this.#parts.table.get(key.slice(ENDPOINT.length));
    if (workload?.deleting) await this.#remove(workload);
    else if (workload) await this.#apply(workload);
  }

  #onResult(key: string, failure: Failure | undefined): void {
    const { table } = this.#parts;
    const workload = key.startsWith(ENDPOINT) ? table.get(key.slice(ENDPOINT.length)) : undefined;
    if (workload) {
      workload.status.error = failure && {
        kind: "endpoint",
        error: failure.error.message,
        sinceUnixS: failure.sinceMs / 1000,
        nextRetryUnixS: failure.nextRetryMs / 1000,
        attempts: failure.attempts,
      };
      this.#conditions.judgeFailure(workload, failure);
      table.publish(workload);
    }
    if (key === COVER && failure) this.#parts.names.order.fail("policies", failure.error);
    if (key !== SYNC) this.sweep();
    if (this.#parts.policies.isUnbound && this.#areBound()) this.#parts.policies.bound();
    this.#parts.onResult(key, failure);
  }

  /** Reads back what an earlier process left: it is judged by policies and prefixes of which nobody else knows. */
  async #find(): Promise<void> {
    if (this.#isFound) return;
    const { datapath, peer, policies, prefixes, names, onFound } = this.#parts;
    const found = await peer.call("read what it has", () => datapath.found(), BULK_DEADLINE_MS);
    const [ofNames, ofPrefixes] = [true, false].map((isOfNames) =>
      found.prefixes.filter(({ identity }) => isFqdnIdentity(identity) === isOfNames)
    );
    ofPrefixes.push(...names.hidden(ofNames));
    const identities = new Set(ofPrefixes.map(({ identity }) => identity));
    prefixes.adopt(ofPrefixes);
    names.adopt(ofNames);
    policies.adopt(found.policies, identities, true);
    policies.adopt(found.left.flatMap(({ policy }) => policy ?? []), identities, false);
    const policyOf = new Map(
      found.left.flatMap(({ policy, endpoints }) => endpoints.map((id) => [id, policy?.name ?? ""])),
    );
    for (const { spec, status, restored } of this.#parts.table.workloads()) {
      if (!restored) continue;
      // A host that nothing guards has none in the kernel.
      const otherwise = spec.host && !policies.has(status.policy) ? "" : status.policy;
      status.policy = policyOf.get(status.id) ?? otherwise;
    }
    this.#isFound = true;
    this.#foundProcess = found.process;
    names.begin();
    onFound();
  }

  async #cover(): Promise<void> {
    const { configurator, policies, prefixes, names, table } = this.#parts;
    if (!configurator.configured) return;
    const { version, isHeld, failure } = await policies.cover();
    if (prefixes.isComing || names.order.isComing) {
      for (const workload of table.workloads()) await this.#bind(workload);
      if (policies.isUnbound && this.#areBound()) policies.bound();
    }
    prefixes.covered(version, isHeld);
    // Without a pause it would be tried for ever: nothing else happens here.
    if (policies.isUnbound && names.order.isComing) {
      throw new Error(`Cannot tell which policy ${this.#unbound()?.spec.name} has in the kernel`);
    }
    names.order.advance();
    // What is held is tried again.
    if (failure) throw failure;
  }

  /** After another start of the datapath the kernel's endpoint has the policy as it was, until the endpoint is given again. */
  async #bind(workload: Workload): Promise<void> {
    const { status, applied, deleting } = workload;
    if (deleting || applied || !this.#parts.policies.has(status.policy)) return;
    try {
      await this.#put(workload, status.identity, status.policy);
    } catch (error) {
      // One that cannot be attached passes nothing.
      if (!(error as Error).message.startsWith(CANNOT_ATTACH)) throw error;
    }
  }

  async #configure(): Promise<void> {
    if (await this.#parts.configurator.apply()) this.#parts.onConfigured();
  }

  async #apply(workload: Workload): Promise<void> {
    const { configurator, policies, table, config } = this.#parts;
    if (!configurator.configured || workload.unwritten) return;
    this.giveAddresses(workload);
    const { spec, status } = workload;
    const settled = settledIdentity(workload, config);
    // In doubt it stays who it is, and follows the policy of that.
    const number = settled?.number ?? status.identity;
    if (number === 0) {
      table.setState(workload, "WAITING_FOR_IDENTITY");
      return await this.#close(workload);
    }
    const mapState = policies.mapState(number);
    this.#conditions.judgePolicy(workload, number);
    if (!mapState) {
      if (workload.restored || workload.applied) return;
      table.setState(workload, "WAITING_TO_REGENERATE");
      return await this.#close(workload);
    }
    const runs = status.policy !== "" && status.policy !== CLOSED_POLICY;
    // Its entries are those of before, or none at all.
    if (mapState.error !== "" && (runs || workload.restored)) return;
    const variant = variantOf(workload, config);
    if (policies.missing(mapState, variant) !== undefined) return await this.#keep(workload);
    this.#conditions.setWaiting(spec.name, false);
    if (status.state !== "READY") table.setState(workload, "REGENERATING");
    const policy = policyName(mapState, variant);
    if (mapState.ruleSets.length > 0) {
      await this.#giveProxy(workload, number, policy).catch((error) => {
        // What is sent to nobody waits for nobody.
        if (mayRedirect(variant)) throw error;
      });
      // Others that have the policy may not have had L7 rules before.
      for (const other of table.workloads()) {
        if (other !== workload && other.applied?.policy === policy && mayRedirect(variant)) {
          await this.#giveProxy(other, number, policy);
        }
      }
    }
    await policies.apply(mapState, variant);
    const moved = await this.#put(workload, number, policy);
    const kept = isDeepStrictEqual([number, settled?.labels], [status.identity, status.identityLabels]);
    if (settled) {
      status.identityLabels = [...settled.labels];
      status.identity = number;
    }
    workload.mapState = mapState;
    workload.restored = false;
    const before = status.policy;
    status.policy = policy;
    status.policyRevision = mapState.policyRevision;
    const enforced = enforcedAs(mapState, variant.enforcement);
    status.ingressEnforced = enforced.enforceIngress;
    status.egressEnforced = enforced.enforceEgress;
    status.enforcement = variant.enforcement;
    status.audit = variant.audit;
    table.setCondition(workload, "POLICY_FAILED", undefined);
    this.noteReady(workload);
    // One file of the node has its newest policy revision.
    const isNewest = mapState.policyRevision > this.#newestKept;
    if (moved || !kept || isNewest) this.#parts.onKept(workload);
    if (isNewest) this.#newestKept = mapState.policyRevision;
    if (before !== policy) this.#queue.add(UNUSED);
    this.#parts.onApplied(workload);
  }

  async #giveProxy(
    { spec: { name }, status, given }: Workload,
    identity: number,
    policy: string,
  ): Promise<void> {
    const labels = given?.labels ?? status.identityLabels;
    const addresses = [status.ipv4, status.ipv6].filter((address) => address !== "");
    await this.#parts.proxy.giveEndpoint({
      name,
      id: status.id,
      identity,
      policy,
      labels: [...labels],
      addresses,
    });
  }

  /** Takes from the L7 proxy what no endpoint uses. */
  tidyProxy(): void {
    const policies = new Set<string>(), endpoints = new Set<string>();
    for (const { spec, status, applied, deleting } of this.#parts.table.workloads()) {
      for (const name of [status.policy, applied?.policy]) if (name) policies.add(name);
      if (!deleting?.kernelGone) endpoints.add(spec.name);
    }
    this.#parts.proxy.keepOnly(policies, endpoints);
  }

  /** A map state waits for prefixes: what there is stays, and is given again to a datapath that is there anew. */
  async #keep(workload: Workload): Promise<void> {
    const { policies, table } = this.#parts;
    const { spec: { name }, status } = workload;
    this.#conditions.setWaiting(name, true);
    if (workload.applied) return;
    if (status.policy !== "" && await policies.again(status.policy)) {
      await this.#put(workload, status.identity, status.policy);
    } else if (!workload.restored) {
      table.setState(workload, "WAITING_TO_REGENERATE");
      await this.#close(workload);
    }
  }

  /** READY once the kernel and the cluster have it. */
  noteReady(workload: Workload): void {
    const { status, applied, announced, deleting, spec } = workload;
    if (deleting || !applied || applied.policy === CLOSED_POLICY || !workload.mapState) return;
    if (!hasNoAddress(spec) && !announced) return;
    if (status.state !== "READY") status.readyUnixS = this.#parts.clock.nowMs() / 1000;
    this.#parts.table.setState(workload, "READY");
  }

  /**
   * A workload that exists without us (a device, a cgroup) passes nothing until it is known who it is. A new namespace has
   * no device yet.
   */
  async #close(workload: Workload): Promise<void> {
    const { spec, status } = workload;
    // The host is open until a policy selects it.
    if (spec.host || spec.netns !== "" || workload.restored || status.policy !== "") return;
    await this.#parts.policies.applyClosed();
    await this.#put(workload, IDENTITY_INIT, CLOSED_POLICY);
    status.policy = CLOSED_POLICY;
    this.#parts.table.publish(workload);
  }

  /** @returns true when the datapath was told something */
  async #put(workload: Workload, identity: number, policy: string): Promise<boolean> {
    const { spec, status } = workload;
    const wanted: Init<DatapathEndpoint> = {
      name: spec.name,
      id: status.id,
      kind: spec.host ? "HOST" : spec.netns !== "" ? "NETNS" : spec.device !== "" ? "DEVICE" : "CGROUP",
      netns: spec.netns,
      device: spec.device,
      cgroup: spec.cgroup,
      containerDevice: spec.containerDevice || (spec.netns !== "" ? "eth0" : ""),
      ipv4: status.ipv4,
      ipv6: status.ipv6,
      mac: spec.mac,
      identity,
      policy,
    };
    if (isDeepStrictEqual(workload.applied, wanted)) return false;
    workload.applied = undefined;
    const { datapath, peer } = this.#parts;
    const realized = await peer.call(`attach endpoint ${spec.name}`, () => datapath.putEndpoint(wanted));
    if (realized.status?.error) {
      throw new Error(`${CANNOT_ATTACH} endpoint ${spec.name}: ${realized.status.error.error}`);
    }
    status.mac = realized.status?.mac ?? "";
    status.hostDevice = realized.status?.hostDevice ?? "";
    status.ifindex = realized.status?.ifindex ?? 0;
    workload.applied = wanted;
    return true;
  }

  async #remove(workload: Workload): Promise<void> {
    const { datapath, peer, onKernelGone } = this.#parts;
    const { name } = workload.spec;
    if (workload.deleting!.kernelGone) return;
    await peer.call(`remove endpoint ${name}`, () => datapath.deleteEndpoint(name));
    workload.deleting!.kernelGone = true;
    workload.deleting!.kernel.resolve();
    workload.applied = undefined;
    onKernelGone(workload);
  }

  async #dropUnusedPolicies(): Promise<void> {
    const used = new Set<string>();
    // What was found is used by those that are not given again yet.
    if ([...this.#parts.table.workloads()].some(({ restored }) => restored)) {
      for (const name of this.#parts.policies.foundNames()) used.add(name);
    }
    for (const { status, applied } of this.#parts.table.workloads()) {
      used.add(status.policy);
      if (applied?.policy) used.add(applied.policy);
    }
    await this.#parts.policies.keepOnly(used);
  }

  /** The kernel may hold something of it that it was not told to keep. */
  #isUntold(workload: Workload): boolean {
    if (workload.deleting) return false;
    const failure = this.failureOf(workload.spec.name);
    // One that cannot be attached (its namespace is gone) is no reason to keep what else is left over.
    if (failure?.error.message.startsWith(CANNOT_ATTACH)) return false;
    return workload.restored;
  }

  /** Every endpoint that the kernel has was given to the datapath that runs now. */
  #areBound(): boolean {
    return this.#unbound() === undefined;
  }

  /** An endpoint that may have a policy of before in the kernel until it is given again. */
  #unbound(): Workload | undefined {
    for (const workload of this.#parts.table.workloads()) {
      const { applied, status, restored, spec: { name, host } } = workload;
      // Of a host without a policy it is known that there is none.
      if (applied || (status.policy === "" && (host || !restored))) continue;
      if (!this.failureOf(name)?.error.message.startsWith(CANNOT_ATTACH)) return workload;
    }
  }

  /** Once every source is in sync and every endpoint was told, the datapath may sweep what nothing desires. */
  async #sync(): Promise<void> {
    const { configurator, maySweep, process, datapath, peer } = this.#parts;
    const epoch = process();
    if (this.#swept || epoch === undefined || !configurator.configured || !maySweep()) return;
    if (this.waitsFor() !== undefined) return;
    await peer.call("sweep", () => datapath.sync(epoch));
    // Meanwhile it may be there anew.
    this.#swept = epoch === process();
  }
}
