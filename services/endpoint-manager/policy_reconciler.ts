/**
 * The map states of the identities that this node hosts, and the policies that the datapath has of them.
 * @module
 */
import type { Endpoint } from "@weir/proto/endpoint";
import type { MapState } from "@weir/proto/policy";
import { resolvePolicy } from "./policy_variant.ts";
import type { DatapathPort, Mirror, PolicyPort } from "./ports.ts";

/** See the module comment. */
export class PolicyReconciler implements Disposable {
  private readonly mapStates = new Map<number, Mirror<MapState> & Disposable>();
  /** Policies the datapath has, with what it was given. */
  private readonly applied = new Map<string, string>();

  /** @param onChange called with the identity whose map state changed */
  constructor(
    private readonly policy: PolicyPort,
    private readonly datapath: DatapathPort,
    private readonly onChange: (identity: number) => void,
  ) {}

  /** The datapath is there anew. */
  forget(): void {
    this.applied.clear();
  }

  /** The map state of an identity, watched from now on; undefined until it has come. */
  mapState(identity: number): MapState | undefined {
    let mirror = this.mapStates.get(identity);
    if (!mirror) {
      mirror = this.policy.mapState(identity, { onChange: () => this.onChange(identity) });
      this.mapStates.set(identity, mirror);
    }
    return mirror.get(`${identity}`);
  }

  /** Gives the datapath the policy of an endpoint, unless it has it. */
  async apply(mapState: MapState, spec: Endpoint): Promise<void> {
    const policy = resolvePolicy(mapState, spec.namedPorts);
    const text = JSON.stringify(policy);
    if (this.applied.get(policy.name!) === text) return;
    const { status } = await this.datapath.putPolicy(policy);
    if (status?.error) throw new Error(`Cannot apply policy ${policy.name}: ${status.error.error}`);
    this.applied.set(policy.name!, text);
  }

  /** Takes back the policies and stops watching the identities that nobody uses. */
  async keepOnly(policies: ReadonlySet<string>, identities: ReadonlySet<number>): Promise<void> {
    for (const name of [...this.applied.keys()]) {
      if (policies.has(name)) continue;
      await this.datapath.deletePolicy(name);
      this.applied.delete(name);
    }
    for (const [identity, mirror] of this.mapStates) {
      if (identities.has(identity)) continue;
      mirror[Symbol.dispose]();
      this.mapStates.delete(identity);
    }
  }

  [Symbol.dispose](): void {
    for (const mirror of this.mapStates.values()) mirror[Symbol.dispose]();
  }
}
