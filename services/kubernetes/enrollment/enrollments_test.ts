import assert from "node:assert/strict";
import { ApiServer, Logger, MetricsRegistry, parseJoinToken, type Peer } from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { Database } from "@weir/common/state";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { WeirClient } from "@weir/client";
import { IssueRequest } from "@weir/proto/certificate";
import { EnrollmentRequest } from "@weir/proto/kubernetes";
import { createCertificateAuthority } from "../../certificate-authority/mod.ts";
import { ApiClient } from "../api/client.ts";
import { RESOURCES } from "../api/resource.ts";
import { FakeApiServer, statusAnswer } from "../testing/fake_api_server.ts";
import { ClusterFacts } from "./cluster_facts.ts";
import { Enrollments } from "./enrollments.ts";

const STRANGER: { peer: Peer; address: string } = {
  peer: { role: "anonymous", node: "" },
  address: "192.0.2.7",
};

/** Enrollments with a real authority, and an API server that says of a token what the test says. */
class Fixture implements AsyncDisposable {
  readonly clock = new FakeClock(Date.now());
  readonly server = new FakeApiServer(RESOURCES.TokenReview);
  readonly client = new ApiClient({ server: this.server.url, authorities: [] });
  readonly database = new Database("sqlite::memory:");
  readonly authority = createCertificateAuthority({ database: this.database, clock: this.clock });
  readonly authorityClient = new WeirClient({ handler: this.authority.api.fetch });
  readonly metrics = new MetricsRegistry();
  readonly facts: ClusterFacts;
  readonly enrollments: Enrollments;
  /** `status` of the next reviews. */
  review: Record<string, unknown> = good();
  reviews: unknown[] = [];

  constructor() {
    const parts = {
      client: this.client,
      authority: this.authorityClient,
      clock: this.clock,
      log: Logger.silent(),
    };
    const { health } = new ApiServer({ name: "kubernetes" });
    this.facts = new ClusterFacts({ ...parts, namespace: "weir-system", health });
    this.enrollments = new Enrollments({
      ...parts,
      facts: this.facts,
      serviceAccount: "weir-system/weir-node",
      metrics: this.metrics,
    });
    this.server.intercept = async (request) => {
      const body = await request.json();
      this.reviews.push(body);
      return Response.json({ ...body, status: this.review });
    };
  }

  static async make(): Promise<Fixture> {
    const f = new Fixture();
    await f.authority.start();
    const { requestPem } = await createCertificateRequest("plane");
    const addresses = ["192.0.2.1:7440"];
    await f.authority.issue(
      IssueRequest.create({ requestPem, node: "plane", role: "control-plane", addresses }),
      {},
    );
    return f;
  }

  enroll(more: Partial<EnrollmentRequest> = {}, from = "192.0.2.7") {
    return this.enrollments.enroll(EnrollmentRequest.create({ token: "a.b.c", node: "n1", ...more }), from);
  }

  async issue(joinToken: string, node: string) {
    const { requestPem } = await createCertificateRequest(node);
    const { secret } = parseJoinToken(joinToken);
    return await this.authority.issue(IssueRequest.create({ requestPem, node, secret }), STRANGER);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.authority.stop();
    await this.database.close();
    this.authorityClient.close();
    this.client.close();
    await this.server[Symbol.asyncDispose]();
  }
}

function good(node = "n1", credential = "JTI=1"): Record<string, unknown> {
  return {
    authenticated: true,
    audiences: ["weir"],
    user: {
      username: "system:serviceaccount:weir-system:weir-node",
      extra: {
        "authentication.kubernetes.io/node-name": [node],
        "authentication.kubernetes.io/credential-id": [credential],
      },
    },
  };
}

Deno.test("a node's pod gets a join token for its node, that lets it in once", async () => {
  await using f = await Fixture.make();
  const answer = await f.enroll();
  assert.deepEqual(f.reviews, [{
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenReview",
    spec: { token: "a.b.c", audiences: ["weir"] },
  }]);
  assert.deepEqual([answer.node, answer.cluster, answer.addresses], ["n1", "default", ["192.0.2.1:7440"]]);
  await assert.rejects(f.issue(answer.joinToken, "n2"), { code: "TOKEN_REFUSED" });
  assert.equal((await f.issue(answer.joinToken, "n1")).role, "node");
  await assert.rejects(f.issue(answer.joinToken, "n1"), { code: "TOKEN_USED" });
});

Deno.test("a token that was used before is not worth anything, also with its text changed", async () => {
  await using f = await Fixture.make();
  const first = await f.enroll();
  // The answer was lost: the same one again.
  assert.equal((await f.enroll()).joinToken, first.joinToken);
  await f.clock.advance(299_000);
  assert.equal((await f.enroll()).joinToken, first.joinToken);
  await f.clock.advance(1000);
  await assert.rejects(f.enroll(), { code: "TOKEN_SPENT" });
  await assert.rejects(f.enroll({ token: "a.b.d" }), { code: "TOKEN_SPENT" });
  f.review = good("n1", "JTI=2");
  const second = await f.enroll();
  assert.notEqual(second.joinToken, first.joinToken);
});

Deno.test("whoever is not a node's pod is refused", async () => {
  const { user, ...rest } = good() as { user: Record<string, unknown> };
  const cases: [string, number, Record<string, unknown>, Partial<EnrollmentRequest>][] = [
    ["NODE_WRONG", 403, good("n2"), {}],
    ["TOKEN_REFUSED", 401, { authenticated: false, error: "expired" }, {}],
    ["TOKEN_REFUSED", 401, { ...good(), audiences: ["https://kubernetes.default.svc"] }, {}],
    ["TOKEN_REFUSED", 401, { ...good(), audiences: undefined }, {}],
    ["SERVICE_ACCOUNT_WRONG", 403, {
      ...rest,
      user: { ...user, username: "system:serviceaccount:other:weir-node" },
    }, {}],
    ["SERVICE_ACCOUNT_WRONG", 403, { ...rest, user: { ...user, username: "weir-node" } }, {}],
    ["TOKEN_UNBOUND", 403, { ...rest, user: { ...user, extra: {} } }, {}],
    ["INVALID_ARGUMENT", 400, good(), { token: "no token" }],
    ["INVALID_ARGUMENT", 400, good(), { token: `a.b.${"c".repeat(20_000)}` }],
    ["NODE_WRONG", 403, good(), { node: "" }],
  ];
  for (const [code, status, review, request] of cases) {
    await using f = await Fixture.make();
    f.review = review;
    await assert.rejects(f.enroll(request), (error: { code: string; status: number }) => {
      assert.deepEqual([error.code, error.status], [code, status]);
      return true;
    });
    assert.equal(f.authority.tokens.size, 0, "no token was made");
  }
});

Deno.test("an API server that cannot be asked is no fault of the node's", async () => {
  await using f = await Fixture.make();
  for (let i = 0; i < 30; i++) {
    f.server.intercept = () => statusAnswer(i % 2 ? 403 : 500, i % 2 ? "Forbidden" : "InternalError");
    await assert.rejects(f.enroll(), { code: "REVIEW_UNAVAILABLE" });
  }
  f.server.intercept = undefined;
});

Deno.test("guessing is slowed, by address, and does not reach the API server", async () => {
  await using f = await Fixture.make();
  f.review = { authenticated: false };
  for (let i = 0; i < 20; i++) {
    await assert.rejects(f.enroll({ token: `a.b.${i}` }), { code: "TOKEN_REFUSED" });
  }
  await assert.rejects(f.enroll(), { code: "TOO_MANY_ATTEMPTS" });
  assert.equal(f.reviews.length, 20);
  f.review = good();
  assert.equal((await f.enroll({}, "192.0.2.8")).node, "n1");
  await f.clock.advance(10_000);
  assert.equal((await f.enroll()).node, "n1");
});

Deno.test("two callers at once do not both have one token unspent", async () => {
  await using f = await Fixture.make();
  const both = await Promise.allSettled([f.enroll(), f.enroll()]);
  assert.equal(both.filter(({ status }) => status === "fulfilled").length, 1);
  assert.equal(f.authority.tokens.size, 1);
});
