/** How often which rule of which policy decided, from the verdicts of flows. Bounded. @module */
import type { Flow } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import type { CardDetail } from "../api.ts";
import { secondsOf } from "./flow_end.ts";
import { policiesOf } from "./flow_row.ts";

/** Rules that are counted; those of further ones are counted in `folded`. */
const RULES_MAX = 50_000;
/** Cards whose policies are known, and policies of one. */
const CARDS_MAX = 4000, POLICIES_PER_CARD_MAX = 64;

type CardHits = { -readonly [K in keyof CardDetail["policies"][number]]: CardDetail["policies"][number][K] };

/** Hits of one rule in one direction. */
export interface RuleHits {
  /** "cnp:shop/cart". */
  readonly policy: string;
  readonly kind: string;
  readonly namespace: string;
  readonly policyName: string;
  readonly direction: "ingress" | "egress";
  readonly path: string;
  /** Of the file. */
  readonly line: number;
  allowed: number;
  denied: number;
  lastHitUnixS: number;
}

/** The counts. */
export class PolicyHits {
  folded = 0;
  readonly #rules = new Map<string, RuleHits>();
  readonly #cards = new Map<string, Map<string, CardHits>>();

  /** Takes in a flow; verdicts of policy alone count. `cards`: of its source and its destination, grouped by workload. */
  add(flow: Flow, nowS: number, cards: { egress: string; ingress: string }): void {
    if (flow.event_type?.type !== EVENT.POLICY_VERDICT) return;
    const atS = secondsOf(flow, nowS);
    for (const { name, kind, namespace, policyName, direction, effect, path, line } of policiesOf(flow)) {
      const key = `${name} ${direction} ${path} ${line}`;
      let rule = this.#rules.get(key);
      if (rule === undefined) {
        if (this.#rules.size >= RULES_MAX) {
          this.folded++;
          continue;
        }
        rule = {
          policy: name,
          kind,
          namespace,
          policyName,
          direction,
          path,
          line,
          allowed: 0,
          denied: 0,
          lastHitUnixS: 0,
        };
        this.#rules.set(key, rule);
      }
      rule[effect]++;
      rule.lastHitUnixS = Math.max(rule.lastHitUnixS, atS);
      this.#ofCard(cards[direction], rule, effect);
    }
  }

  /** Policies that decided for a card, the busiest first. */
  ofCard(id: string): CardDetail["policies"] {
    return [...this.#cards.get(id)?.values() ?? []].sort((a, b) =>
      b.allowed + b.denied - a.allowed - a.denied
    );
  }

  #ofCard(card: string, rule: RuleHits, effect: "allowed" | "denied"): void {
    let policies = this.#cards.get(card);
    if (policies === undefined) {
      if (this.#cards.size >= CARDS_MAX) return;
      this.#cards.set(card, policies = new Map());
    }
    const { policy: name, kind, namespace, policyName, direction } = rule, key = `${name} ${direction}`;
    let hits = policies.get(key);
    if (hits === undefined) {
      if (policies.size >= POLICIES_PER_CARD_MAX) return;
      policies.set(
        key,
        hits = { name, kind, namespace, policyName, direction, allowed: 0, denied: 0, lastHitUnixS: 0 },
      );
    }
    hits[effect]++;
    hits.lastHitUnixS = Math.max(hits.lastHitUnixS, rule.lastHitUnixS);
  }

  /** Hits by the policy's name. */
  byPolicy(): Map<string, RuleHits[]> {
    return Map.groupBy(this.#rules.values(), ({ policy }) => policy);
  }
}
