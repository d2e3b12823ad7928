"""The app developers' README: it names what an app can meet, and its samples compile."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.clients import build
from tests.clients.driver import STATUSES

README: Final = (build.ADAPTERS / "README.md").read_text()

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
    rows = re.findall(r"^\| (.*`.*) \| (F|U) \|", README, re.MULTILINE)
    said = {code: status for codes, status in rows for code in re.findall(r"`([A-Z_]{2,})`", codes)}
    assert said == STATUSES


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
