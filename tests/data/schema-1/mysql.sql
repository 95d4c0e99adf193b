-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: 127.0.0.1    Database: fixture
-- ------------------------------------------------------
-- Server version	10.11.19-MariaDB-0+deb12u1

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;
/*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;
/*!40101 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;

--
-- Table structure for table `change_log`
--

DROP TABLE IF EXISTS `change_log`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `change_log` (
  `id` smallint(6) NOT NULL,
  `epoch` binary(16) NOT NULL,
  `last_seq` bigint(20) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `change_log`
--

LOCK TABLES `change_log` WRITE;
/*!40000 ALTER TABLE `change_log` DISABLE KEYS */;
INSERT INTO `change_log` VALUES
(1,0x67B3D6DBD26F47A79CC78CCE63A286C2,4);
/*!40000 ALTER TABLE `change_log` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `identity_changes`
--

DROP TABLE IF EXISTS `identity_changes`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `identity_changes` (
  `seq` bigint(20) NOT NULL,
  `kind` varchar(32) NOT NULL,
  `user_id` binary(16) DEFAULT NULL,
  `session_id` binary(16) DEFAULT NULL,
  `at` datetime(6) NOT NULL,
  PRIMARY KEY (`seq`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `identity_changes`
--

LOCK TABLES `identity_changes` WRITE;
/*!40000 ALTER TABLE `identity_changes` DISABLE KEYS */;
INSERT INTO `identity_changes` VALUES
(1,'session_revoked',0x01A20DA8E3D97CC2A4A4599EAAFFBBCD,0x01A20DA8E44B7F7D9F9E705B094446B3,'2026-11-24 13:05:02.055151'),
(2,'user_changed',0x01A20DA8E48B723B8F07ACD6619C5C86,NULL,'2026-11-24 13:05:02.190951'),
(3,'user_changed',0x01A20DA8E5127C4C96C08335B56175CC,NULL,'2026-11-24 13:05:02.268983'),
(4,'user_deleted',0x01A20DA8E56076379E8691F75C665256,NULL,'2026-11-24 13:05:02.346764');
/*!40000 ALTER TABLE `identity_changes` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `locks`
--

DROP TABLE IF EXISTS `locks`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `locks` (
  `name` varchar(32) NOT NULL,
  PRIMARY KEY (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `locks`
--

LOCK TABLES `locks` WRITE;
/*!40000 ALTER TABLE `locks` DISABLE KEYS */;
INSERT INTO `locks` VALUES
('superusers');
/*!40000 ALTER TABLE `locks` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `seaql_migrations`
--

DROP TABLE IF EXISTS `seaql_migrations`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `seaql_migrations` (
  `version` varchar(255) NOT NULL,
  `applied_at` bigint(20) NOT NULL,
  PRIMARY KEY (`version`)
) ENGINE=InnoDB DEFAULT CHARSET=latin1 COLLATE=latin1_swedish_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `seaql_migrations`
--

LOCK TABLES `seaql_migrations` WRITE;
/*!40000 ALTER TABLE `seaql_migrations` DISABLE KEYS */;
INSERT INTO `seaql_migrations` VALUES
('m20261124_000001_users_and_sessions',1795525501),
('m20261124_000002_change_log',1795525501);
/*!40000 ALTER TABLE `seaql_migrations` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `sessions`
--

DROP TABLE IF EXISTS `sessions`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `sessions` (
  `id` binary(16) NOT NULL,
  `token_hash` binary(32) NOT NULL,
  `user_id` binary(16) NOT NULL,
  `created_at` datetime(6) NOT NULL,
  `last_seen_at` datetime(6) NOT NULL,
  `expires_at` datetime(6) NOT NULL,
  `auth_methods` varchar(64) NOT NULL,
  `client_ip_address` varchar(45) DEFAULT NULL,
  `client_user_agent` varchar(512) DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `token_hash` (`token_hash`),
  KEY `idx_sessions_user_id_created_at` (`user_id`,`created_at`),
  CONSTRAINT `fk_sessions_user_id` FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `sessions`
--

LOCK TABLES `sessions` WRITE;
/*!40000 ALTER TABLE `sessions` DISABLE KEYS */;
INSERT INTO `sessions` VALUES
(0x01A20DA8E3D977EBAF25F86E1053BD01,0x8B314092408678F8027B4DA83966B65368EA08DA8AAD60E80ACC2871A101A042,0x01A20DA8E3D97CC2A4A4599EAAFFBBCD,'2026-11-24 13:05:01.913776','2026-11-24 13:05:01.913776','2026-12-24 13:05:01.913776','password','2001:db8::7','Example/1.0 (телефон; O‘zbekiston 📱)'),
(0x01A20DA8E4247CC69F118A5082054D4A,0x8D9665E484C5F6F8007591EF8879A562EFF1D03FC965607CD5259612102D824B,0x01A20DA8E3D97CC2A4A4599EAAFFBBCD,'2026-11-24 13:05:01.988093','2026-11-24 13:05:01.988093','2026-12-24 13:05:01.988093','password','203.0.113.9',NULL),
(0x01A20DA8E4B478BAA00DAC528FF01CC3,0xF940CEF1430D7C8E92B3B3DD4ECFB8599C806429F580B8DD2DD22CC2FAD7DA18,0x01A20DA8E48B723B8F07ACD6619C5C86,'2026-11-24 13:05:02.132509','2026-11-24 13:05:02.132509','2026-12-24 13:05:02.132509','password',NULL,NULL),
(0x01A20DA8E6537A49A8CA74BAB848CAD6,0xEC40D6DBA1E4A6788C9FB3F0D6C3E0D8154596172309990CC13B28FB5F98B87C,0x01A20DA8E62D7B6FA190C575ED3F3B4F,'2026-11-24 13:05:02.547746','2026-11-24 13:05:02.547746','2026-12-24 13:05:02.547746','password',NULL,NULL),
(0x01A20DA8E67A783A87E624DA97D543E8,0xECAFB7A9255E144BD31626981D9E5610520000DDB4DBEFC2E11741612F2BB9F0,0x01A20DA8E67A7157AFFC46E4D519B2CA,'2026-11-24 13:05:02.586135','2026-11-24 13:05:02.586135','2026-12-24 13:05:02.586135','password',NULL,NULL);
/*!40000 ALTER TABLE `sessions` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `users`
--

DROP TABLE IF EXISTS `users`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `users` (
  `id` binary(16) NOT NULL,
  `phone_number` varchar(24) NOT NULL,
  `password_hash` varchar(255) DEFAULT NULL,
  `credential_version` bigint(20) NOT NULL,
  `status` varchar(16) NOT NULL,
  `is_staff` tinyint(1) NOT NULL,
  `is_superuser` tinyint(1) NOT NULL,
  `phone_verified_at` datetime(6) DEFAULT NULL,
  `locale` varchar(35) DEFAULT NULL,
  `created_at` datetime(6) NOT NULL,
  `updated_at` datetime(6) NOT NULL,
  `last_login_at` datetime(6) DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `phone_number` (`phone_number`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `users`
--

LOCK TABLES `users` WRITE;
/*!40000 ALTER TABLE `users` DISABLE KEYS */;
INSERT INTO `users` VALUES
(0x01A20DA8E3D97CC2A4A4599EAAFFBBCD,'+998901000001','$argon2id$v=19$m=19456,t=2,p=1$Mx1y5s2pCkszAhDI+w/FZg$92ZPSPzBmO2IHZX72Xnw3IYtXEgXjIJWWjbbniTRdq4',0,'active',0,0,NULL,NULL,'2026-11-24 13:05:01.913776','2026-11-24 13:05:01.913776','2026-11-24 13:05:02.027825'),
(0x01A20DA8E48B723B8F07ACD6619C5C86,'+16502530000','$argon2id$v=19$m=19456,t=2,p=1$vQ2Pbf6K9eTqiE6zEDr5vA$lVaWQvzePKQ5OBfpUNaVaUa9qAy9owkXaF9FsRsK6t0',1,'active',0,0,NULL,'uz-Latn-UZ','2026-11-24 13:05:02.091035','2026-11-24 13:05:02.187502','2026-11-24 13:05:02.132509'),
(0x01A20DA8E5127C4C96C08335B56175CC,'+998901000003','$argon2id$v=19$m=19456,t=2,p=1$0PxIO/UgQxxYw+QGyXhf+w$3Qx8/CwvXRmuAK68J1eePX9Ur7qCgfz/tMvxBLJ1+80',0,'deactivated',0,0,NULL,NULL,'2026-11-24 13:05:02.226714','2026-11-24 13:05:02.266043','2026-11-24 13:05:02.226714'),
(0x01A20DA8E62D7B6FA190C575ED3F3B4F,'+998901000005','$argon2id$v=19$m=19456,t=2,p=1$3gSivSqw8nrJssexULRx/Q$+nm4kC8s3eoYK6Dhha+9nOsoO0hInJ90TbUXJsuXkQc',0,'active',1,1,NULL,NULL,'2026-11-24 13:05:02.509759','2026-11-24 13:05:02.509759','2026-11-24 13:05:02.547746'),
(0x01A20DA8E67A7157AFFC46E4D519B2CA,'+998901000006',NULL,0,'active',1,0,'2026-11-24 13:05:02.586135',NULL,'2026-11-24 13:05:02.586135','2026-11-24 13:05:02.586135','2026-11-24 13:05:02.586135');
/*!40000 ALTER TABLE `users` ENABLE KEYS */;
UNLOCK TABLES;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
/*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;
/*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;
/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed
