"""The app developers' README: it names what an app can meet, and its samples compile."""

import re
from pathlib import Path
from typing import Final

import pytest

from gateway.alipayplus.results import DOCUMENTED
from gateway.errors import FAILURES
from tests.clients import build

README: Final = (build.ADAPTERS / "README.md").read_text()
OF_THE_API = "UPSTREAM_"
"""Failures of the MPP's own API, which no SDK request meets."""

JAVA: Final = """
import com.example.alipayplus.sdk.*;
import com.example.wallet.GatewayNetworkProxy;
import java.net.MalformedURLException;
import java.util.*;

class Sample {
    interface Account { String accessToken(); boolean refreshAccessToken(); }
    interface InitConfig { void registerNetworkProxy(ProxyScene scene, NetworkProxy proxy); }

    void start(final Account account, InitConfig initConfig) {
        %s
    }
}
"""
OBJC: Final = """
#import "GatewayNetworkProxy.h"

@protocol Account
- (NSString *)accessToken;
- (void)refreshAccessTokenWithCompletion:(void (^)(BOOL refreshed))completion;
@end
@interface WalletLogin : NSObject <GatewayLogin>
@property (nonatomic) id<Account> account;
@end
@protocol Config
- (void)registerNetworkProxy:(id<IAPNetworkProxy>)proxy forScene:(IAPProxyScene)scene;
@end

%s
void Start(WalletLogin *login, id<Config> config);
void Start(WalletLogin *login, id<Config> config) {
%s
}
"""


def test_it_says_of_each_code_that_the_listener_can_be_told_whether_the_call_may_have_been_executed() -> None:
    statuses = {failure.code: failure.result_status for failure in FAILURES.values() if not failure.code.startswith(OF_THE_API)}
    statuses |= {code: status for code, status in DOCUMENTED.items() if code != "SUCCESS"}
    statuses |= {"NOT_SENT": "F", "NO_ANSWER": "U"}
    rows = re.findall(r"^\| (.*`.*) \| (no|unknown) \|", README, re.MULTILINE)
    said = {code: executed for codes, executed in rows for code in re.findall(r"`([A-Z_]{2,})`", codes)}
    assert said == {code: "no" if status == "F" else "unknown" for code, status in statuses.items()}


def test_its_java_compiles(tmp_path: Path) -> None:
    source = tmp_path / "Sample.java"
    source.write_text(JAVA % "".join(samples("java")))
    try:
        build.android(tmp_path, source)
    except build.Missing as missing:
        pytest.skip(str(missing))


def test_its_objective_c_compiles(tmp_path: Path) -> None:
    source = tmp_path / "sample.m"
    login, registration = samples("objc")
    source.write_text(OBJC % (login, registration))
    try:
        options = build.objc_options()
    except build.Missing as missing:
        pytest.skip(str(missing))
    build.compiled(source, tmp_path, (*options, *build.ARC, "-Wno-unused-parameter"))


def samples(language: str) -> list[str]:
    """Give what stands in the README in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
