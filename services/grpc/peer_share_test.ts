import assert from "node:assert/strict";
import { addressPeer, overShare } from "./peer_share.ts";

Deno.test("addressPeer() counts by host: an IPv6 host has a /64, and everybody on this machine is one", () => {
  const cases = [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["fe80::1%eth0", "fe80::/64"],
    ["127.0.0.1", "loopback"],
    ["127.9.8.7", "loopback"],
    ["::1", "loopback"],
    ["::ffff:127.0.0.1", "loopback"],
    ["what", "what"],
  ];
  for (const [remoteAddress, name] of cases) {
    assert.deepEqual(addressPeer({ remoteAddress }), { name, isLocal: false });
  }
  assert.deepEqual(addressPeer({ remoteAddress: undefined }), { name: "unix", isLocal: true });
});

Deno.test("overShare() names the greatest share where it has two more than the one who asks", () => {
  const cases: [string, string, unknown][] = [
    // who has a place, in order; who asks; whose newest goes
    ["", "a", undefined],
    ["aaaa", "a", undefined],
    ["aaaa", "b", ["a", 3]],
    ["aab", "b", undefined],
    ["aaab", "b", ["a", 2]],
    ["abcb", "d", ["b", 3]],
    ["abc", "d", undefined],
    ["aabbbcc", "d", ["b", 4]],
    ["aabbb", "a", undefined],
  ];
  for (const [taken, name, expected] of cases) {
    const all = [...taken].map((name, id) => [id, { name, isLocal: false }] as const);
    const most = overShare(all, { name, isLocal: false });
    assert.deepEqual(most && [most.name, most.newest], expected, `${taken} and ${name}`);
  }
});
