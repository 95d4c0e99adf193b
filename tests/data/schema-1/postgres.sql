--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: change_log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.change_log (
    id smallint NOT NULL,
    epoch uuid NOT NULL,
    last_seq bigint NOT NULL
);


--
-- Name: identity_changes; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.identity_changes (
    seq bigint NOT NULL,
    kind character varying(32) NOT NULL,
    user_id uuid,
    session_id uuid,
    at timestamp with time zone NOT NULL
);


--
-- Name: locks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.locks (
    name character varying(32) NOT NULL
);


--
-- Name: seaql_migrations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.seaql_migrations (
    version character varying NOT NULL,
    applied_at bigint NOT NULL
);


--
-- Name: sessions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sessions (
    id uuid NOT NULL,
    token_hash bytea NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    auth_methods character varying(64) NOT NULL,
    client_ip_address character varying(45),
    client_user_agent character varying(512)
);


--
-- Name: users; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.users (
    id uuid NOT NULL,
    phone_number character varying(24) NOT NULL,
    password_hash character varying(255),
    credential_version bigint NOT NULL,
    status character varying(16) NOT NULL,
    is_staff boolean NOT NULL,
    is_superuser boolean NOT NULL,
    phone_verified_at timestamp with time zone,
    locale character varying(35),
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    last_login_at timestamp with time zone
);


--
-- Data for Name: change_log; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.change_log VALUES (1, '8cb2568f-3605-49ec-b509-bc0bf697bc1a', 4);


--
-- Data for Name: identity_changes; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.identity_changes VALUES (1, 'session_revoked', '01a20da8-dc1d-78e2-b470-52fbf84d25ce', '01a20da8-dc9f-724b-9815-c36c5dd57212', '2026-11-24 13:05:00.090953+00');
INSERT INTO public.identity_changes VALUES (2, 'user_changed', '01a20da8-dcde-7c0a-951f-1fd9d7da30fe', NULL, '2026-11-24 13:05:00.222403+00');
INSERT INTO public.identity_changes VALUES (3, 'user_changed', '01a20da8-dd62-79b5-84a4-c7c06bcbaade', NULL, '2026-11-24 13:05:00.298421+00');
INSERT INTO public.identity_changes VALUES (4, 'user_deleted', '01a20da8-ddad-78c7-b184-a0c37c66cc56', NULL, '2026-11-24 13:05:00.374732+00');


--
-- Data for Name: locks; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.locks VALUES ('superusers');


--
-- Data for Name: seaql_migrations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.seaql_migrations VALUES ('m20261124_000001_users_and_sessions', 1795525499);
INSERT INTO public.seaql_migrations VALUES ('m20261124_000002_change_log', 1795525499);


--
-- Data for Name: sessions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.sessions VALUES ('01a20da8-dc1d-77e0-9f26-8641d95a7063', '\xe0ace0d89d187487bc07184eeb89b50b84b1ddfd03bd999e7fba3dba8ded757a', '01a20da8-dc1d-78e2-b470-52fbf84d25ce', '2026-11-24 13:04:59.933392+00', '2026-11-24 13:04:59.933392+00', '2026-12-24 13:04:59.933392+00', 'password', '2001:db8::7', 'Example/1.0 (телефон; O‘zbekiston 📱)');
INSERT INTO public.sessions VALUES ('01a20da8-dc75-7bad-abda-8b83b5aa3a45', '\x08bbb34c96e01d23bfece6081d001aca9d4b5021557fe11952bb6d7e9aa9a855', '01a20da8-dc1d-78e2-b470-52fbf84d25ce', '2026-11-24 13:05:00.021049+00', '2026-11-24 13:05:00.021049+00', '2026-12-24 13:05:00.021049+00', 'password', '203.0.113.9', NULL);
INSERT INTO public.sessions VALUES ('01a20da8-dd04-74e7-a99e-244410f34260', '\x38abd2211523b546d8088aafef9d92cad09a42016d16480473a39475a9facc31', '01a20da8-dcde-7c0a-951f-1fd9d7da30fe', '2026-11-24 13:05:00.164779+00', '2026-11-24 13:05:00.164779+00', '2026-12-24 13:05:00.164779+00', 'password', NULL, NULL);
INSERT INTO public.sessions VALUES ('01a20da8-de87-742a-bdb0-8600bf0bad5f', '\x632e39d31d2a4f6af8af02c72669022493391d82047262feb9b6901ac78e0d1a', '01a20da8-de5c-7fde-9c37-ddcc9058de02', '2026-11-24 13:05:00.551548+00', '2026-11-24 13:05:00.551548+00', '2026-12-24 13:05:00.551548+00', 'password', NULL, NULL);
INSERT INTO public.sessions VALUES ('01a20da8-deaf-76e9-a473-4e8139d505e7', '\xe655339cf8a168f44533ee189947d0f41ab40f78e51b5e67481ff704a8c8fbb7', '01a20da8-deaf-7540-bf03-fab88ff5deff', '2026-11-24 13:05:00.591958+00', '2026-11-24 13:05:00.591958+00', '2026-12-24 13:05:00.591958+00', 'password', NULL, NULL);


--
-- Data for Name: users; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.users VALUES ('01a20da8-dc1d-78e2-b470-52fbf84d25ce', '+998901000001', '$argon2id$v=19$m=19456,t=2,p=1$gRvlKwr81HFMMUnMmfGo7w$R98c8IP0Yp2po59hAwrz534sRC2p/7+d7wDN5WwmQd4', 0, 'active', false, false, NULL, NULL, '2026-11-24 13:04:59.933392+00', '2026-11-24 13:04:59.933392+00', '2026-11-24 13:05:00.06314+00');
INSERT INTO public.users VALUES ('01a20da8-dcde-7c0a-951f-1fd9d7da30fe', '+16502530000', '$argon2id$v=19$m=19456,t=2,p=1$ebjYsvpKMrBz29uL1pr69A$t732eEd3WH/8oNaxYKnh31ua72auvHzFaFefyCrKOXs', 1, 'active', false, false, NULL, 'uz-Latn-UZ', '2026-11-24 13:05:00.126614+00', '2026-11-24 13:05:00.21901+00', '2026-11-24 13:05:00.164779+00');
INSERT INTO public.users VALUES ('01a20da8-dd62-79b5-84a4-c7c06bcbaade', '+998901000003', '$argon2id$v=19$m=19456,t=2,p=1$mIe6p92Lw/evslP9SsgZyQ$1h9yHdtdJVRAHYk6yYQhakzq5+t4eKtazARBdgnIy/A', 0, 'deactivated', false, false, NULL, NULL, '2026-11-24 13:05:00.258198+00', '2026-11-24 13:05:00.296441+00', '2026-11-24 13:05:00.258198+00');
INSERT INTO public.users VALUES ('01a20da8-de5c-7fde-9c37-ddcc9058de02', '+998901000005', '$argon2id$v=19$m=19456,t=2,p=1$cAVCR2UmNpWNKNyFHz+2Ew$i0q9JIbI07F3crk1Aek/4YfXaGfvn8JoRvTsZCnzRvw', 0, 'active', true, true, NULL, NULL, '2026-11-24 13:05:00.508518+00', '2026-11-24 13:05:00.508518+00', '2026-11-24 13:05:00.551548+00');
INSERT INTO public.users VALUES ('01a20da8-deaf-7540-bf03-fab88ff5deff', '+998901000006', NULL, 0, 'active', true, false, '2026-11-24 13:05:00.591958+00', NULL, '2026-11-24 13:05:00.591958+00', '2026-11-24 13:05:00.591958+00', '2026-11-24 13:05:00.591958+00');


--
-- Name: change_log change_log_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.change_log
    ADD CONSTRAINT change_log_pkey PRIMARY KEY (id);


--
-- Name: identity_changes identity_changes_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.identity_changes
    ADD CONSTRAINT identity_changes_pkey PRIMARY KEY (seq);


--
-- Name: locks locks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.locks
    ADD CONSTRAINT locks_pkey PRIMARY KEY (name);


--
-- Name: seaql_migrations seaql_migrations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.seaql_migrations
    ADD CONSTRAINT seaql_migrations_pkey PRIMARY KEY (version);


--
-- Name: sessions sessions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);


--
-- Name: sessions sessions_token_hash_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_token_hash_key UNIQUE (token_hash);


--
-- Name: users users_phone_number_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_phone_number_key UNIQUE (phone_number);


--
-- Name: users users_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);


--
-- Name: idx_sessions_user_id_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX idx_sessions_user_id_created_at ON public.sessions USING btree (user_id, created_at);


--
-- Name: sessions fk_sessions_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT fk_sessions_user_id FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;


--
-- PostgreSQL database dump complete
--


