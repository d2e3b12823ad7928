import com.example.alipayplus.sdk.HttpProxyRequestInfo;
import com.example.alipayplus.sdk.HttpProxyResponseInfo;
import com.example.alipayplus.sdk.ProxyScene;
import com.example.wallet.GatewayNetworkProxy;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.InterruptedIOException;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLConnection;
import java.net.URLStreamHandler;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONObject;

/** Plays the SDK: does what the lines of standard input say and answers in lines of standard output (tests/clients/driver.py). */
public final class Driver {
    private static final Map<String, App> APPS = new HashMap<>();

    /** An app with its login and its adapter. */
    private static final class App implements GatewayNetworkProxy.Login, GatewayNetworkProxy.Listener {
        final GatewayNetworkProxy proxy;
        private final JSONArray logins;
        private final List<String[]> told = new ArrayList<>();
        private final int renewAfter;
        private final boolean hasTime;
        private int asked;
        private int at;
        private int renewals;

        App(JSONObject command) throws MalformedURLException {
            int timeout = command.optInt("timeout");
            logins = command.optJSONArray("logins");
            renewAfter = command.optInt("renew_after");
            hasTime = command.optBoolean("has_time");
            GatewayNetworkProxy.Listener listener = command.optBoolean("listener") ? this : null;
            proxy = new GatewayNetworkProxy(command.optString("base"), timeout, timeout, this, listener);
        }

        @Override
        public synchronized Map<String, String> headers() {
            asked++;
            notifyAll();
            String value = logins.isNull(at) ? null : logins.optString(at);
            if (value == null) {
                throw new IllegalStateException("nobody is logged in");
            }
            Map<String, String> headers = new HashMap<>();
            if (!value.isEmpty()) {
                headers.put("Authorization", value);
            }
            if (hasTime) {
                headers.put("X-Time", String.valueOf(asked));
            }
            return headers;
        }

        @Override
        public synchronized boolean renew() {
            renewals++;
            while (asked < renewAfter) {
                await();
            }
            if (at + 1 == logins.length()) {
                return false;
            }
            at++;
            return true;
        }

        private void await() {
            try {
                wait();
            } catch (InterruptedException error) {
                throw new IllegalStateException(error);
            }
        }

        @Override
        public synchronized void onFailure(String code, String status, String message, String requestId) {
            told.add(new String[] {code, status, message, requestId});
        }

        synchronized void report(JSONObject answer) throws Exception {
            JSONArray all = new JSONArray();
            for (String[] one : told) {
                all.put(new JSONArray().put(one[0]).put(one[1]).put(one[2]).put(one[3]));
            }
            told.clear();
            answer.put("told", all).put("renewals", renewals);
        }
    }

    /** A platform that ends a call when its thread is interrupted, and takes the interrupt away; the host says at which step. */
    private static final class Interrupting extends HttpURLConnection {
        Interrupting(URL url) {
            super(url);
        }

        @Override
        public void connect() throws IOException {
            end("connect");
        }

        @Override
        public OutputStream getOutputStream() throws IOException {
            end("write");
            return new ByteArrayOutputStream();
        }

        @Override
        public int getResponseCode() throws IOException {
            end("read");
            return 200;
        }

        private void end(String step) throws IOException {
            if (step.equals(url.getHost()) && Thread.interrupted()) {
                throw new InterruptedIOException();
            }
        }

        @Override
        public void disconnect() {}

        @Override
        public boolean usingProxy() {
            return false;
        }
    }

    private static final class InterruptingHandler extends URLStreamHandler {
        @Override
        protected URLConnection openConnection(URL url) {
            return new Interrupting(url);
        }
    }

    private Driver() {}

    public static void main(String[] arguments) throws Exception {
        URL.setURLStreamHandlerFactory(protocol -> protocol.equals("interrupting") ? new InterruptingHandler() : null);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            JSONObject command = new JSONObject(line);
            String name = command.getString("app");
            switch (command.getString("op")) {
                case "open":
                    APPS.put(name, new App(command));
                    say(new JSONObject().put("id", command.getInt("id")));
                    break;
                case "call":
                    App app = APPS.get(name);
                    Thread thread = new Thread(() -> call(app, command));
                    thread.setDaemon(true);
                    thread.start();
                    break;
                default:
                    APPS.remove(name);
                    say(new JSONObject().put("id", command.getInt("id")));
            }
        }
    }

    private static void call(App app, JSONObject command) {
        try {
            HttpProxyRequestInfo request = new HttpProxyRequestInfo();
            request.scene = command.isNull("scene") ? null : ProxyScene.valueOf(command.getString("scene"));
            request.httpProxyRequestHeader = text(command.getString("header"));
            request.httpProxyRequestData = text(command.getString("data"));
            if (command.optBoolean("interrupted")) {
                Thread.currentThread().interrupt();
            }
            HttpProxyResponseInfo response = app.proxy.sendHttpRequest(request);
            JSONObject answer = new JSONObject();
            answer.put("id", command.getInt("id")).put("interrupted", Thread.currentThread().isInterrupted());
            answer.put("response", response == null ? JSONObject.NULL : written(response));
            app.report(answer);
            say(answer);
        } catch (Exception error) {
            error.printStackTrace();
        }
    }

    private static JSONObject written(HttpProxyResponseInfo response) throws Exception {
        return new JSONObject()
                .put("isSuccess", response.isSuccess)
                .put("errorCode", response.errorCode)
                .put("errorMessage", response.errorMessage)
                .put("header", hex(response.httpProxyResponseHeader))
                .put("data", hex(response.httpProxyResponseData));
    }

    /** Strings travel as the hexadecimal digits of their UTF-16 units: lone surrogates too, and no JSON code can change them. */
    private static String text(String hex) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < hex.length(); i += 4) {
            text.append((char) Integer.parseInt(hex.substring(i, i + 4), 16));
        }
        return text.toString();
    }

    private static String hex(String text) {
        if (text == null) {
            return null;
        }
        StringBuilder hex = new StringBuilder();
        for (char unit : text.toCharArray()) {
            for (int shift = 12; shift >= 0; shift -= 4) {
                hex.append(Character.forDigit(unit >> shift & 15, 16));
            }
        }
        return hex.toString();
    }

    private static synchronized void say(JSONObject answer) {
        System.out.println(answer);
    }
}
