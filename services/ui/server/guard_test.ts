import assert from "node:assert/strict";
import { guard, type GuardOptions } from "./guard.ts";

const options: GuardOptions = {
  base: "/weir/",
  hosts: ["ui.example"],
  loopback: true,
  tls: false,
  nowMs: () => 0,
};
const ask = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  new Request(`http://localhost${path}`, { method, headers: { host: "127.0.0.1:12000", ...headers } });
const ok = () => new Response("fine");

Deno.test("guard() answers its own names alone, GET alone, and no other page", async () => {
  const handler = guard(ok, options);
  const cases: [Request, number][] = [
    [ask("/weir/"), 200],
    [ask("/weir/api/live", { host: "ui.example" }), 200],
    [ask("/weir/api/live", { host: "UI.example:443" }), 200],
    [ask("/weir/api/live", { host: "[::1]:12000" }), 200],
    [ask("/weir/api/live", { host: "evil.example" }), 421],
    [ask("/weir/api/live", { host: "127.0.0.1.evil.example" }), 421],
    [ask("/weir/api/live", { host: "" }), 421],
    [ask("/weir/api/live", { host: "localhost@evil.example" }), 421],
    [ask("/weir/api/live", {}, "POST"), 405],
    [ask("/weir/api/live", { "sec-fetch-site": "cross-site" }), 403],
    [ask("/weir/api/live", { "sec-fetch-site": "same-site" }), 403],
    [ask("/weir/api/live", { "sec-fetch-site": "same-origin" }), 200],
    [ask("/weir/", { "sec-fetch-site": "cross-site" }), 200],
    [ask(`/weir/api/flows?${"a".repeat(9000)}`), 414],
  ];
  for (const [request, status] of cases) {
    const response = await handler(request);
    assert.equal(response.status, status, `${request.url} ${request.headers.get("host")}`);
    assert.match(response.headers.get("content-security-policy")!, /^default-src 'none'; script-src 'self';/);
    await response.body?.cancel();
  }
});

Deno.test("guard() takes a token once, keeps a cookie that scripts cannot read, and stops guessing", async () => {
  let nowMs = 0;
  const handler = guard(ok, {
    ...options,
    token: "secret",
    tls: true,
    nowMs: () => nowMs,
    limits: { wrongTokensMax: 3 },
  });
  assert.equal((await handler(ask("/weir/"))).status, 401);
  assert.equal((await handler(ask("/weir/"), true)).status, 200, "a certificate was shown");
  assert.equal((await handler(ask("/weir/", { authorization: "Bearer secret" }))).status, 200);
  assert.equal((await handler(ask("/weir/", { cookie: "weir-ui=wrong" }))).status, 401);
  const welcome = await handler(ask("/weir/map?token=secret&by=node"));
  assert.equal(welcome.status, 303);
  assert.equal(welcome.headers.get("location"), "/weir/map?by=node");
  const cookie = welcome.headers.get("set-cookie")!;
  assert.match(cookie, /; Path=\/weir\/; HttpOnly; SameSite=Strict; Secure$/);
  assert.equal((await handler(ask("/weir/", { cookie: `a=b; ${cookie.split(";")[0]}` }))).status, 200);
  assert.equal(
    (await handler(ask("//evil.example/?token=secret"))).headers.get("location"),
    "/evil.example/",
  );
  for (let i = 0; i < 3; i++) assert.equal((await handler(ask("/weir/?token=guess"))).status, 401);
  assert.equal((await handler(ask("/weir/?token=secret"))).status, 429, "guessing is over");
  nowMs = 61_000;
  assert.equal((await handler(ask("/weir/?token=secret"))).status, 303);
});

Deno.test("guard() holds so many answers at once, and gives the places back when bodies end or are given up", async () => {
  const handler = guard(
    () => new Response(new ReadableStream({ pull: (to) => to.enqueue(new Uint8Array(1)) })),
    { ...options, limits: { requestsMax: 2 } },
  );
  const first = await handler(ask("/weir/api/live")), second = await handler(ask("/weir/api/live"));
  assert.equal((await handler(ask("/weir/api/live"))).status, 503);
  await first.body!.cancel();
  const third = await handler(ask("/weir/api/live"));
  assert.equal(third.status, 200);
  for (const one of [second, third]) await one.body!.cancel();
});
