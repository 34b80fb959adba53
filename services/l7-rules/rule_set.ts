/**
 * A rule set that requests are judged by. It is compiled once, and judges without any state.
 *
 *     RuleSet ──compileRuleSet──▶ CompiledRuleSet ──judge(request)──▶ allowed? by which rule? what becomes of the headers?
 *
 * @module
 */
import type { L7Kind, RuleSet } from "@weir/proto/l7";
import { cassandraJudge, compileCassandraRule } from "./cassandra_rules.ts";
import { compileDnsRules, judgeDns } from "./dns_rules.ts";
import { compileHttpRule, judgeHttp } from "./http_rules.ts";
import {
  allowedBy,
  type CompiledRule,
  deniedBy,
  type Judgement,
  means,
  type NearMiss,
  nearMisses,
} from "./judgement.ts";
import { compileKafkaRule, judgeKafka } from "./kafka_rules.ts";
import { compileMemcacheRule, judgeMemcache } from "./memcache_rules.ts";
import { RuleFault } from "./pattern.ts";
import type { CassandraStatement, L7Request } from "./request.ts";
import { compileServerNameRule } from "./server_name_rules.ts";

/** A rule set, ready. */
export interface CompiledRuleSet {
  readonly id: number;
  readonly kind: L7Kind;
  readonly unrestricted: boolean;
  /** The rules of which none allows what is denied, in words: `RuleSet.denied_by`. */
  readonly deniedBy: readonly string[];
  /** What is said of a request. One of another kind than the set's is denied, unless everything passes. */
  readonly judge: (request: L7Request) => Judgement;
  /** Every rule and what of it the request does not meet, those that lack least first. */
  readonly nearMisses: (request: L7Request) => NearMiss[];
}

/** @throws {RuleFault} where a rule cannot be judged by. What cannot be compiled must not be put in force: the set before stays */
export function compileRuleSet(set: RuleSet): CompiledRuleSet {
  const { judge, rules } = compileKind(set);
  return {
    id: set.id,
    kind: set.kind,
    unrestricted: set.unrestricted,
    deniedBy: set.deniedBy,
    judge(request) {
      if (request.kind === set.kind) {
        const judgement = judge(request);
        if (judgement.allowed || !set.unrestricted) return judgement;
      } else if (!set.unrestricted) return deniedBy(set.deniedCookie);
      return allowedBy(set.unrestrictedCookie);
    },
    nearMisses: (request) => request.kind === set.kind ? nearMisses(rules, request as never) : [],
  };
}

/**
 * Several rule sets as the one that judges a connection which they all cover: a request passes if any rule of them allows it. Those of another
 * kind than the first are for other peers, and do not count. To be compiled once per combination.
 * @param plainCookie of an allow without L7 rules that covers the connection; 0: there is none
 */
export function unionOfRuleSets(sets: readonly RuleSet[], plainCookie = 0): RuleSet {
  const [first] = sets;
  if (first === undefined) throw new RangeError("There is no rule set to judge by");
  const alike = sets.filter(({ kind }) => kind === first.kind),
    open = alike.find(({ unrestricted }) => unrestricted);
  if (alike.length === 1 && plainCookie === 0) return first;
  return {
    ...first,
    unrestricted: plainCookie !== 0 || open !== undefined,
    unrestrictedCookie: open?.unrestrictedCookie ?? plainCookie,
    deniedBy: [...new Set(alike.flatMap(({ deniedBy }) => deniedBy))],
    http: alike.flatMap(({ http }) => http),
    dns: alike.flatMap(({ dns }) => dns),
    kafka: alike.flatMap(({ kafka }) => kafka),
    cassandra: alike.flatMap(({ cassandra }) => cassandra),
    memcache: alike.flatMap(({ memcache }) => memcache),
    serverNames: alike.flatMap(({ serverNames }) => serverNames),
  };
}

interface Kind {
  readonly judge: (request: L7Request) => Judgement;
  readonly rules: readonly CompiledRule<never>[];
}

function compileKind(set: RuleSet): Kind {
  const { deniedCookie } = set;
  switch (set.kind) {
    case "HTTP": {
      const rules = set.http.map(compileHttpRule);
      return kindOf(rules, (request: Of<"HTTP">) => judgeHttp(rules, request, deniedCookie));
    }
    case "DNS": {
      const rules = compileDnsRules(set.dns);
      return kindOf(rules.rules, (request: Of<"DNS">) => judgeDns(rules, request, deniedCookie));
    }
    case "KAFKA": {
      const rules = set.kafka.map(compileKafkaRule);
      return kindOf(rules, (request: Of<"KAFKA">) => judgeKafka(rules, request, deniedCookie));
    }
    case "CASSANDRA": {
      const rules = set.cassandra.map(compileCassandraRule);
      return kindOf<Of<"CASSANDRA">>(rules.map(ofWorstStatement), cassandraJudge(rules, deniedCookie));
    }
    case "MEMCACHE": {
      const rules = set.memcache.map(compileMemcacheRule);
      return kindOf(rules, (request: Of<"MEMCACHE">) => judgeMemcache(rules, request, deniedCookie));
    }
    case "TLS": {
      const rules = set.serverNames.map(compileServerNameRule);
      return kindOf(rules, (request: Of<"TLS">) => {
        const rule = rules.find((rule) => means(rule, request));
        return rule === undefined ? deniedBy(deniedCookie) : allowedBy(rule.cookie);
      });
    }
    default:
      throw new RuleFault(`is a rule set of kind ${set.kind}, which is not known here`);
  }
}

type Of<K extends L7Request["kind"]> = Extract<L7Request, { kind: K }>;

function kindOf<R extends L7Request>(
  rules: readonly CompiledRule<R>[],
  judge: (request: R) => Judgement,
): Kind {
  return { rules, judge: judge as Kind["judge"] };
}

/** A batch is as far from a rule as the statement of it that is farthest. */
function ofWorstStatement(rule: CompiledRule<CassandraStatement>): CompiledRule<Of<"CASSANDRA">> {
  return {
    cookie: rule.cookie,
    conditions: rule.conditions.map(({ holds, lacks }) => ({
      holds: ({ statements }) => statements.every(holds),
      lacks: ({ statements }) => lacks(statements.find((statement) => !holds(statement))!),
    })),
  };
}
