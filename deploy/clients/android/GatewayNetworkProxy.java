package com.example.wallet;

import com.example.alipayplus.sdk.HttpProxyRequestInfo;
import com.example.alipayplus.sdk.HttpProxyResponseInfo;
import com.example.alipayplus.sdk.NetworkProxy;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.io.OutputStream;
import java.net.HttpRetryException;
import java.net.HttpURLConnection;
import java.net.MalformedURLException;
import java.net.SocketTimeoutException;
import java.net.URL;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import org.json.JSONException;
import org.json.JSONObject;
import org.json.JSONTokener;

/**
 * Hands the requests of the Alipay+ SDK to the wallet's gateway, and its answers to the SDK.
 *
 * <p>A call is sent once. Neither this class nor the platform repeats it, with one exception: after HTTP 401, where nothing was
 * executed, the login is renewed and the call is sent once more. Every failure is null, because the SDK takes any object for a
 * success; the {@link Listener} learns what it was. One instance serves all scenes and all threads but the main one.
 */
public final class GatewayNetworkProxy implements NetworkProxy {

    /** The user's login at the wallet. A RuntimeException of these methods fails the call with {@link #NOT_SENT}. */
    public interface Login {
        /**
         * Gives the headers that prove the login, such as Authorization or Cookie; none if nobody is logged in. Asked for every
         * call, on many threads at once.
         */
        Map<String, String> headers();

        /**
         * Renews the login, which the gateway refused; false if only the user can. Never on two threads at once. It may block, and must
         * end: other calls that were refused wait for it, as long as a call may take, and fail then.
         */
        boolean renew();
    }

    /** Learns of every failure, on the thread of the call, before the SDK does. It must not throw. */
    public interface Listener {
        /**
         * @param code resultCode of the gateway's answer, or {@link #NOT_SENT} or {@link #NO_ANSWER}
         * @param status {@link #SURELY_NOT} or {@link #UNKNOWN}, whether the call may have been executed; no code says that for sure
         * @param message for logs, not for the user: resultMessage of the gateway's answer, else an exception's name or the HTTP status
         * @param requestId finds the call in the gateway's log; null without an answer
         */
        void onFailure(String code, String status, String message, String requestId);
    }

    /**
     * Nothing was sent, or not all of it, which is not executed either: no connection, a certificate that is not trusted, a login that
     * cannot be had, strings that are no Unicode text, or a connection that ended before the whole body had gone out.
     */
    public static final String NOT_SENT = "NOT_SENT";

    /** It was sent, and no answer of the gateway came back: whether it was executed is unknown. */
    public static final String NO_ANSWER = "NO_ANSWER";

    /** The status of a call that surely was not executed. */
    public static final String SURELY_NOT = "F";

    /** The status of a call that may have been executed. */
    public static final String UNKNOWN = "U";

    /** Bytes; by default the gateway takes at most 4 MiB from Alipay+ (alipayplus.max_response): raise both together. */
    private static final int MAX_ANSWER = 5 * 1024 * 1024;

    /** Ends calls that take too long: the platform bounds each read only, and no write. */
    private static final ScheduledThreadPoolExecutor WATCH = watch();

    private final URL endpoint;
    private final int connectTimeout;
    private final int readTimeout;
    private final Login login;
    private final Listener listener;
    private final ReentrantLock renewal = new ReentrantLock();
    private volatile int renewals; // both are written under renewal
    private boolean renewed;

    /**
     * @param baseUrl the gateway's origin with its sdk_proxy.path_prefix, such as https://api.wallet.example/alipayplus
     * @param connectTimeout milliseconds
     * @param readTimeout milliseconds; more than all the gateway's own deadlines together, as `gateway check` prints them. A call
     *     ends after both together, each time that it is sent
     * @param listener or null
     */
    public GatewayNetworkProxy(String baseUrl, int connectTimeout, int readTimeout, Login login, Listener listener)
            throws MalformedURLException {
        this.endpoint = new URL(baseUrl.replaceAll("/+$", "") + "/v1/sdkProxy");
        this.connectTimeout = connectTimeout;
        this.readTimeout = readTimeout;
        this.login = login;
        this.listener = listener;
    }

    @Override
    public HttpProxyResponseInfo sendHttpRequest(HttpProxyRequestInfo request) {
        try {
            return responseInfo(send(encode(request)));
        } catch (Failure failure) {
            return failed(failure.code, failure.status, failure.getMessage(), failure.requestId);
        } catch (RuntimeException error) { // of the login; what may come after sending is a Failure
            return failed(NOT_SENT, SURELY_NOT, nameOf(error), null);
        }
    }

    private HttpProxyResponseInfo failed(String code, String status, String message, String requestId) {
        if (listener != null) {
            listener.onFailure(code, status, message, requestId);
        }
        return null;
    }

    private Answer send(byte[] body) throws Failure {
        int before = renewals;
        Answer answer = post(body, login.headers());
        return answer.status == 401 && isRenewed(before) ? post(body, login.headers()) : answer;
    }

    /** Of calls that are refused at the same time one renews the login; the others wait, or find that this has been done meanwhile. */
    private boolean isRenewed(int before) {
        try {
            if (!renewal.tryLock() && !renewal.tryLock(connectTimeout + (long) readTimeout, TimeUnit.MILLISECONDS)) {
                return false;
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            return false;
        }
        try {
            if (renewals == before) {
                renew();
            }
            return renewed;
        } finally {
            renewal.unlock();
        }
    }

    private void renew() {
        renewed = false; // for those who wait, if it throws
        try {
            renewed = login.renew();
        } finally {
            renewals++;
        }
    }

    private Answer post(byte[] body, Map<String, String> headers) throws Failure {
        HttpURLConnection connection = open(body.length, headers);
        boolean isSent = false;
        long longest = connectTimeout + (long) readTimeout;
        boolean hasEnd = connectTimeout > 0 && readTimeout > 0;
        Future<?> end = hasEnd ? WATCH.schedule(connection::disconnect, longest, TimeUnit.MILLISECONDS) : null;
        long began = System.nanoTime();
        try {
            connection.connect();
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body);
                isSent = true;
            }
            return read(connection, began, hasEnd ? longest : Long.MAX_VALUE);
        } catch (HttpRetryException error) { // for a 401 where the app has an Authenticator, which cannot answer for a streamed body
            connection.disconnect();
            return new Answer(error.responseCode(), null, new byte[0]);
        } catch (IOException | RuntimeException error) { // old platforms throw the latter too
            connection.disconnect(); // only here: an answer that was read to its end leaves a connection to use again
            keepInterrupt(error);
            throw isSent ? new Failure(NO_ANSWER, UNKNOWN, nameOf(error), null) : notSent(error);
        } finally {
            if (end != null) {
                end.cancel(false);
            }
        }
    }

    private HttpURLConnection open(int length, Map<String, String> headers) throws Failure {
        try {
            HttpURLConnection connection = (HttpURLConnection) endpoint.openConnection();
            connection.setRequestMethod("POST");
            connection.setDoOutput(true);
            connection.setFixedLengthStreamingMode(length); // without it the platform sends a POST again by itself
            connection.setInstanceFollowRedirects(false);
            connection.setUseCaches(false);
            connection.setConnectTimeout(connectTimeout);
            connection.setReadTimeout(readTimeout);
            for (Map.Entry<String, String> header : headers.entrySet()) {
                connection.setRequestProperty(header.getKey(), header.getValue());
            }
            connection.setRequestProperty("Content-Type", "application/json; charset=utf-8");
            connection.setRequestProperty("Accept", "application/json");
            return connection;
        } catch (IOException error) {
            throw notSent(error);
        }
    }

    private static Answer read(HttpURLConnection connection, long began, long longest) throws IOException {
        int status = connection.getResponseCode();
        try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return new Answer(status, connection.getHeaderField("X-Request-Id"), in == null ? new byte[0] : readAll(in, began, longest));
        }
    }

    private static byte[] readAll(InputStream in, long began, long longest) throws IOException {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        byte[] buffer = new byte[16 * 1024];
        for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
            all.write(buffer, 0, count);
            if (all.size() > MAX_ANSWER) {
                throw new IOException("more than the gateway answers");
            }
            // A JDK that reads byte after byte may not let go of the stream for long enough to be disconnected.
            if (TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began) > longest) {
                throw new SocketTimeoutException("the whole answer took too long");
            }
        }
        return all.toByteArray();
    }

    /** The two strings arrive as they are: only their JSON form has escapes, and what is no Unicode text is refused, not mended. */
    private static byte[] encode(HttpProxyRequestInfo request) throws Failure {
        try {
            JSONObject json = new JSONObject();
            json.put("scene", request.scene == null ? null : request.scene.toString());
            json.put("proxyRequestHeader", request.httpProxyRequestHeader);
            json.put("proxyRequestData", request.httpProxyRequestData);
            ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(json.toString()));
            byte[] body = new byte[bytes.remaining()];
            bytes.get(body);
            return body;
        } catch (JSONException | CharacterCodingException error) {
            throw notSent(error);
        }
    }

    private static ScheduledThreadPoolExecutor watch() {
        ScheduledThreadPoolExecutor executor = new ScheduledThreadPoolExecutor(1, work -> {
            Thread thread = new Thread(work, "gateway-calls");
            thread.setDaemon(true);
            return thread;
        });
        executor.setRemoveOnCancelPolicy(true);
        return executor;
    }

    private static HttpProxyResponseInfo responseInfo(Answer answer) throws Failure {
        JSONObject json = answer.json();
        boolean isSuccess = answer.status == 200;
        if (json == null || !isOfTheGateway(json, isSuccess)) {
            String message = "HTTP " + answer.status;
            // Whoever answers 401 passed nothing on. A JDK, unlike Android, keeps its body to itself in streaming mode.
            throw answer.status == 401
                    ? new Failure("SESSION_REQUIRED", SURELY_NOT, message, answer.requestId)
                    : new Failure(NO_ANSWER, UNKNOWN, message, answer.requestId);
        }
        if (!isSuccess) {
            throw new Failure(
                    string(json, "resultCode"), string(json, "resultStatus"), string(json, "resultMessage"), string(json, "requestId"));
        }
        HttpProxyResponseInfo info = new HttpProxyResponseInfo();
        info.isSuccess = true;
        info.httpProxyResponseHeader = string(json, "proxyResponseHeader");
        info.httpProxyResponseData = string(json, "proxyResponseData");
        return info;
    }

    private static boolean isOfTheGateway(JSONObject json, boolean isSuccess) {
        String status = string(json, "resultStatus");
        boolean fits = isSuccess ? "S".equals(status) : SURELY_NOT.equals(status) || UNKNOWN.equals(status);
        return fits && string(json, "resultCode") != null && Boolean.valueOf(isSuccess).equals(json.opt("isSuccess"));
    }

    private static Failure notSent(Throwable error) {
        return new Failure(NOT_SENT, SURELY_NOT, nameOf(error), null);
    }

    private static String string(JSONObject json, String name) {
        Object value = json.opt(name);
        return value instanceof String ? (String) value : null;
    }

    /** The name only: texts of exceptions may quote a header. */
    private static String nameOf(Throwable error) {
        return error.getClass().getSimpleName();
    }

    /** Some platforms take the interrupt away when they end a call for it; it belongs to the thread's owner. */
    private static void keepInterrupt(Exception error) {
        if (error instanceof InterruptedIOException && !(error instanceof SocketTimeoutException)) {
            Thread.currentThread().interrupt();
        }
    }

    private static final class Answer {
        final int status;
        final String requestId;
        private final byte[] body;

        Answer(int status, String requestId, byte[] body) {
            this.status = status;
            this.requestId = requestId;
            this.body = body;
        }

        /** Null if it is no JSON object in UTF-8. */
        JSONObject json() {
            try {
                JSONTokener text = new JSONTokener(StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body)).toString());
                JSONObject json = new JSONObject(text);
                return text.nextClean() == 0 ? json : null;
            } catch (JSONException | CharacterCodingException error) {
                return null;
            } catch (RuntimeException | StackOverflowError error) { // for an escape that is none, on some platforms; for deep nesting
                return null;
            }
        }
    }

    private static final class Failure extends Exception {
        private static final long serialVersionUID = 1L;
        final String code;
        final String status;
        final String requestId;

        Failure(String code, String status, String message, String requestId) {
            super(message);
            this.code = code;
            this.status = status;
            this.requestId = requestId;
        }
    }
}
