/**
 * What requests are judged by: the policies of this node's endpoints, compiled, and which endpoint has which. Every change counts
 * `version` on, so that a connection looks anew only when there is something new.
 *
 *     handle's end ─▶ endpoint ─▶ policy ─▶ entry (remote identity, protocol, port) ─▶ rule set ─▶ judge
 *
 * @module
 */
import { MapState, ProblemError, WatchedTable } from "@weir/common";
import {
  type CompiledRuleSet,
  compileName,
  compileNamePattern,
  compileRuleSet,
  type NameMatcher,
  unionOfRuleSets,
} from "@weir/l7-rules";
import type { Handle, HandleEnd, RuleSet } from "@weir/proto/l7";
import { MapState as MapStateMessage } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy, ProxyPolicyStatus } from "@weir/proto/proxy";
import { Snapshot } from "./snapshot.ts";

/** Policies and endpoints that are taken. */
export const POLICIES_MAX = 65_536;
/** See {@link POLICIES_MAX}. */
export const ENDPOINTS_MAX = 65_536;

/** Which side's rules judge: EGRESS the client's, INGRESS the server's. */
export type Side = "EGRESS" | "INGRESS";

/** What the newest rules say of a connection at one end. */
export type Place =
  /** Requests are judged by these. */
  | { readonly kind: "rules"; readonly rules: CompiledRuleSet; readonly side: Side }
  /** Everything passes: nothing restricts this place any more. `cookie`: of the entry that allows. */
  | { readonly kind: "open"; readonly cookie: number; readonly side: Side }
  /** The connection may not go on. */
  | {
    readonly kind: "closed";
    readonly why: "unknown-policy" | "policy-denies";
    readonly cookie: number;
    readonly side: Side;
  };

interface Policy {
  readonly state: MapState;
  readonly sets: ReadonlyMap<number, RuleSet>;
  /** Of the rule sets that cover some connection together, by their numbers and the allow without rules. */
  readonly compiled: Map<string, CompiledRuleSet>;
  /** Whether a selector of names may mean a name. */
  readonly mayMean: NameMatcher;
}

/** Combinations of rule sets of one policy that are kept compiled; each place of a policy has one. */
const COMPILED_MAX = 4096;

/** Policies and endpoints. */
export class RuleBook {
  readonly policies: WatchedTable<ProxyPolicy> = new WatchedTable({
    name: "policies",
    entriesMax: POLICIES_MAX,
  });
  readonly endpoints: WatchedTable<ProxyEndpoint> = new WatchedTable({
    name: "endpoints",
    entriesMax: ENDPOINTS_MAX,
  });
  /** Moves with every change. */
  version = 1;
  readonly #compiled = new Map<string, Policy>();
  readonly #endpointById = new Map<number, ProxyEndpoint>();
  readonly #policyFiles: Snapshot<ProxyPolicy>;
  readonly #endpointFiles: Snapshot<ProxyEndpoint>;

  /** @param directory where they are kept; "" keeps nothing */
  constructor(directory: string) {
    const at = (name: string) => directory === "" ? "" : `${directory}/${name}`;
    this.#policyFiles = new Snapshot(at("policies"), ProxyPolicy);
    this.#endpointFiles = new Snapshot(at("endpoints"), ProxyEndpoint);
  }

  /** Takes what an earlier process kept. @returns files that could not be read, or not be judged by */
  load(): string[] {
    const policies = this.#policyFiles.load(), endpoints = this.#endpointFiles.load();
    const broken = [...policies.broken, ...endpoints.broken];
    for (const [name, policy] of policies.objects) {
      try {
        this.#take(name, policy);
      } catch (error) {
        broken.push(`${name}: ${(error as Error).message}`);
      }
    }
    for (const [name, endpoint] of endpoints.objects) this.#takeEndpoint(name, endpoint);
    return broken;
  }

  /**
   * Puts a policy in force for every next request, and keeps it. @throws {ProblemError} RULES_INVALID, OTHER_PROCESS,
   * SNAPSHOT_FAILED, TABLE_FULL: the one before stays
   */
  putPolicy(name: string, given: ProxyPolicy): ProxyPolicy {
    if (given.process !== "" && given.process !== this.policies.epoch) {
      throw new ProblemError("OTHER_PROCESS", {
        status: 409,
        detail: `Cannot write policy ${name}: it is meant for another process of the proxy`,
        found: this.policies.epoch,
        expected: given.process,
        action: "Give it what it needs anew",
      });
    }
    const policy = { ...given, name, process: "", status: undefined };
    const compiled = compilePolicy(policy);
    this.#policyFiles.save(name, policy);
    return this.#take(name, policy, compiled);
  }

  /** Repeatable. @returns false when it was not there */
  deletePolicy(name: string): boolean {
    this.#policyFiles.remove(name);
    this.#compiled.delete(name);
    this.version++;
    return this.policies.delete(name) !== undefined;
  }

  /** @throws {ProblemError} SNAPSHOT_FAILED, TABLE_FULL */
  putEndpoint(name: string, given: ProxyEndpoint): ProxyEndpoint {
    const endpoint = { ...given, name };
    this.#endpointFiles.save(name, endpoint);
    return this.#takeEndpoint(name, endpoint);
  }

  /** Repeatable. @returns false when it was not there */
  deleteEndpoint(name: string): boolean {
    this.#endpointFiles.remove(name);
    const known = this.endpoints.get(name);
    if (known !== undefined && this.#endpointById.get(known.id)?.name === name) {
      this.#endpointById.delete(known.id);
    }
    this.version++;
    return this.endpoints.delete(name) !== undefined;
  }

  /** The endpoint with this number. */
  endpoint(id: number): ProxyEndpoint | undefined {
    return this.#endpointById.get(id);
  }

  /** Whether the policy of an endpoint may say something of the addresses of a name. What is not known may. */
  mayMean(endpoint: number, name: string): boolean {
    const policy = this.#compiled.get(this.#endpointById.get(endpoint)?.policy ?? "");
    return policy === undefined || policy.mayMean(name);
  }

  /** What judges a connection now: the client's rules, then the server's, as far as they are of this node. */
  places(handle: Handle): Place[] {
    const places: Place[] = [];
    if (handle.egress !== undefined) places.push(this.#place("EGRESS", handle.egress, handle));
    if (handle.ingress !== undefined) places.push(this.#place("INGRESS", handle.ingress, handle));
    return places;
  }

  #place(side: Side, { endpoint, remoteIdentity }: HandleEnd, handle: Handle): Place {
    const policy = this.#compiled.get(this.#endpointById.get(endpoint)?.policy ?? "");
    // Not knowing a policy is never "no policy".
    if (policy === undefined) return { kind: "closed", why: "unknown-policy", cookie: 0, side };
    const remote = side === "EGRESS" ? handle.serverAddress : handle.clientAddress;
    const address = `${remote}/${remote.includes(":") ? 128 : 32}`;
    const { allowed, cookie, ruleSets, plainCookie } = policy.state.lookup(
      remoteIdentity,
      side,
      handle.protocol,
      handle.serverPort,
      address,
    );
    if (!allowed) return { kind: "closed", why: "policy-denies", cookie, side };
    if (ruleSets.length === 0) return { kind: "open", cookie, side };
    return { kind: "rules", rules: compiledOf(policy, ruleSets, plainCookie), side };
  }

  #take(name: string, policy: ProxyPolicy, compiled: Policy = compilePolicy(policy)): ProxyPolicy {
    const { policyRevision } = policy;
    const value = ProxyPolicy.create({ ...policy, status: ProxyPolicyStatus.create({ policyRevision }) });
    this.policies.put(name, value);
    this.#compiled.set(name, compiled);
    this.version++;
    return value;
  }

  #takeEndpoint(name: string, endpoint: ProxyEndpoint): ProxyEndpoint {
    const before = this.endpoints.get(name);
    this.endpoints.put(name, endpoint);
    if (before !== undefined && before.id !== endpoint.id) this.#endpointById.delete(before.id);
    this.#endpointById.set(endpoint.id, endpoint);
    this.version++;
    return endpoint;
  }
}

/** What judges a connection that these rule sets cover: all of them together. */
function compiledOf(
  { sets, compiled }: Policy,
  ids: readonly number[],
  plainCookie: number,
): CompiledRuleSet {
  const key = `${ids.join()}/${plainCookie}`;
  let found = compiled.get(key);
  if (found === undefined) {
    if (compiled.size >= COMPILED_MAX) compiled.clear();
    found = compileRuleSet(unionOfRuleSets(ids.map((id) => sets.get(id)!), plainCookie));
    compiled.set(key, found);
  }
  return found;
}

/** @throws {ProblemError} RULES_INVALID: a rule set that cannot be judged by, or that an entry names and is not there */
function compilePolicy(policy: ProxyPolicy): Policy {
  const sets = new Map<number, RuleSet>(), compiled = new Map<string, CompiledRuleSet>();
  for (const set of policy.ruleSets) {
    try {
      compiled.set(`${set.id}/0`, compileRuleSet(set));
      sets.set(set.id, set);
    } catch (error) {
      throw rulesInvalid(policy.name, `rule set ${set.id} ${(error as Error).message}`);
    }
  }
  const lacking = policy.entries.find(({ ruleSet }) => ruleSet !== 0 && !sets.has(ruleSet));
  if (lacking !== undefined) throw rulesInvalid(policy.name, `rule set ${lacking.ruleSet} is not there`);
  const {
    policyRevision,
    enforceIngress,
    enforceEgress,
    ingressDefaultCookie,
    egressDefaultCookie,
    entries,
  } = policy;
  const state = MapState.of(MapStateMessage.create({
    policyRevision,
    enforceIngress,
    enforceEgress,
    ingressDefaultCookie,
    egressDefaultCookie,
    entries,
  }));
  return { state, sets, compiled, mayMean: matcherOf(policy) };
}

function matcherOf({ fqdnSelectors, namesTold }: ProxyPolicy): NameMatcher {
  if (!namesTold) return () => true;
  try {
    const matchers = fqdnSelectors.map(({ matchName, matchPattern }) =>
      matchPattern === "" ? compileName(matchName) : compileNamePattern(matchPattern)
    );
    return (name) => matchers.some((matches) => matches(name));
  } catch {
    // Nobody knows what one of them means.
    return () => true;
  }
}

function rulesInvalid(policy: string, found: string): ProblemError {
  return new ProblemError("RULES_INVALID", {
    status: 422,
    detail: `Cannot judge by policy ${policy}: ${found}`,
    found,
    expected: "rule sets that can be compiled, and all that entries name",
    action: "The policy before stays in force; give this one whole",
  });
}
